#!/bin/bash
# Runs as root on a machine of its own that was booted for it by packaging/test.sh: guest.sh before|after deb|rpm.
# `before` and `after` a reboot. Beside it lie old.deb and new.deb (or .rpm) and the probe.
phase=$1 family=$2
here=$(dirname "$(realpath "$0")")
name=confluence-audit-agent unit=$name.service
home=/var/atlassian/application-data/confluence audit=$home/log/audit
config=/etc/$name/config.toml output=/var/log/$name/events.ndjson
export DEBIAN_FRONTEND=noninteractive SYSTEMD_PAGER='' LC_ALL=C
systemd=$(systemctl --version | awk 'NR == 1 { print $2 }')
passed=0 failed=0

pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAILED ${FUNCNAME[2]}: $*"
}
# assert_equal WHAT GOT WANTED
assert_equal() { if [ "$2" = "$3" ]; then pass; else fail "$1 is '$2', not '$3'"; fi; }
# assert_succeeds WHAT COMMAND…
assert_succeeds() {
    local what=$1
    shift
    if "$@" >/tmp/out 2>&1; then pass; else fail "$what: $(tail -n 3 /tmp/out)"; fi
}
# wait_for SECONDS COMMAND…: waits until it succeeds
wait_for() {
    local tries=$(($1 * 10))
    shift
    for ((; tries > 0; tries--)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    return 1
}
skipped() { echo "skipped: ${FUNCNAME[1]}: $*"; }

# Where control groups are nested, the machine's kernel may refuse one to systemd ("Failed to kill control group … Input/output
# error"), and the start ends with 219/CGROUP before anything of the package runs. Such a start is retried once, and logged.
# Whatever else fails fails.
exec 3>&1
no_control_group() { [ "$(command systemctl show -p ExecMainStatus --value "$1")" = 219 ]; }
systemctl() {
    local code=0 last=${!#}
    command systemctl "$@" || code=$?
    if [ $code != 0 ] && [[ " $* " =~ ' '(start|restart|--now)' ' ]] && no_control_group "$last"; then
        echo "tried again: $last: this machine gave systemd no control group (219/CGROUP)" >&3
        command systemctl reset-failed "$last"
        code=0
        command systemctl "$@" || code=$?
    fi
    return $code
}
# restarts UNIT: how often it was started again, but for starts that the machine failed.
restarts() {
    local failures
    failures=$(journalctl -b --no-pager -o cat -u "$1" | grep -c 'status=219/CGROUP')
    [ "$failures" = 0 ] || echo "not counted: $1: $failures starts without a control group (219/CGROUP)" >&3
    echo $(($(systemctl show -p NRestarts --value "$1") - failures))
}

property() { systemctl show -p "$1" --value $unit; }
state() { echo "$(systemctl is-enabled $unit 2>/dev/null) $(systemctl is-active $unit)"; }
journal() {
    journalctl --sync 2>/dev/null
    journalctl -b --no-pager -o cat -u $unit
}
journal_has() { journal | grep -q -- "$1"; }
# signal SIG: to the agent, and never to 0, which would be everyone here
signal() {
    local pid
    pid=$(property MainPID)
    [ "$pid" -gt 1 ] && kill "-$1" "$pid"
}
other_pid() { [ "$(property MainPID)" != "$1" ] && [ "$(property MainPID)" -gt 1 ] && systemctl is-active -q $unit; }
set_dropin() {
    mkdir -p /run/systemd/system/$unit.d
    printf '[Service]\n%s\n' "$@" | sed '2,${/^\[Service\]$/d}' >/run/systemd/system/$unit.d/test.conf
    systemctl daemon-reload
}
clear_dropin() {
    rm -rf /run/systemd/system/$unit.d
    systemctl daemon-reload
}

# Confluence writes the next so many lines, as its own user.
lines=$(cat /root/lines 2>/dev/null || echo 0)
write_lines() {
    local first=$((lines + 1)) last=$((lines + $1))
    runuser -u confluence -- bash -c '
        for ((n = $2; n <= $3; n++)); do
            printf "{\"timestamp\":{\"epochSecond\":%d,\"nano\":0},\"author\":{\"id\":\"-1\",\"name\":\"seq-%05d-end\",\"type\":\"system\"},\"auditType\":{\"action\":\"a\",\"actionI18nKey\":\"a.b\",\"area\":\"SECURITY\",\"category\":\"c\",\"categoryI18nKey\":\"c.d\",\"level\":\"BASE\"},\"affectedObjects\":[],\"changedValues\":[],\"extraAttributes\":[],\"method\":\"System\",\"system\":\"http://wiki.example\",\"version\":\"1.0\"}\n" $((1767600000 + n)) "$n" >>"$1/20260105.00000.audit.log"
        done' _ $audit $first $last
    lines=$last
    echo "$lines" >/root/lines
}
# Every line so far is in the output, once.
numbers() { cat $output 2>/dev/null | sed -n 's/.*seq-\([0-9]*\)-end.*/\1/p'; }
all_delivered() { [ "$(numbers | sort -u | wc -l)" -ge "$lines" ]; }
assert_delivered_once() {
    wait_for 30 all_delivered
    assert_equal "events in the output" "$(numbers | wc -l)" "$lines"
    assert_equal "different events in the output" "$(numbers | sort -u | wc -l)" "$lines"
}

install_package() {
    case $family in
    deb) dpkg --force-confold -i "$here/$1.deb" ;;
    rpm) dnf -y --disablerepo='*' "${2:-install}" "$here/$1.rpm" ;;
    esac >/tmp/install.log 2>&1
}
remove_package() {
    case $family in
    deb) dpkg -r $name ;;
    rpm) dnf -y --disablerepo='*' remove $name ;;
    esac >/tmp/remove.log 2>&1
}
version() {
    case $family in
    deb) dpkg-query -W -f '${Version}' $name ;;
    rpm) rpm -q --qf '%{VERSION}-%{RELEASE}' $name ;;
    esac
}
# All files of the machine, but what other programs write.
files() {
    local other
    other=$(printf -- ' -o -path %s' /sys /run /tmp /var/tmp /root /dev /var/log/journal /var/log/dpkg.log /var/lib/dpkg /var/lib/rpm /usr/lib/sysimage \
        /var/cache /var/lib/dnf /var/lib/systemd /var/log/dnf* /var/log/hawkey.log /var/atlassian)
    # shellcheck disable=SC2086
    find / -xdev \( -path /proc $other \) -prune -o -print |
        grep -vE '^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|^/etc/.*\.lock$|^/var/log$' | sort
}

a_confluence_host() {
    groupadd -r confluence
    useradd -r -g confluence confluence
    useradd -m tester
    install -d -m 755 /var/atlassian /var/atlassian/application-data
    install -d -o confluence -g confluence -m 700 $home
    install -d -o confluence -g confluence -m 750 $home/log $home/log/audit $home/attachments $home/shared-home
    echo secret >$home/confluence.cfg.xml
    chown confluence:confluence $home/confluence.cfg.xml
    chmod 640 $home/confluence.cfg.xml
    runuser -u confluence -- install -m 640 /dev/null $audit/20260105.00000.audit.log
    if [ "$family" = rpm ]; then
        # What each host with rpm has, as rpm knows it: one stub in the place of a distribution.
        printf '%s\n' 'Name: host' 'Version: 1' 'Release: 1' 'Summary: s' 'License: x' 'BuildArch: noarch' \
            'Provides: glibc = 2.28' 'Provides: systemd' 'Provides: /usr/sbin/groupadd' 'Provides: /usr/sbin/useradd' 'Provides: /bin/sh' \
            '%description' 's' '%files' >/root/host.spec
        rpmbuild -bb --quiet --define '_topdir /root/rb' --define '_rpmdir /root' --define '_rpmfilename host.rpm' /root/host.spec
        rpm --force-debian -i /root/host.rpm
        mkdir -p /usr/share/licenses
    fi
    files >/root/files-before
}

# Installed: the user, the group, the modes and one next step, and nothing has been started.
installs() {
    install_package old
    assert_equal "exit code of the installation" $? 0
    assert_equal "state" "$(state)" "disabled inactive"
    assert_succeeds "the next step is named" grep -q "systemctl enable --now $name" /tmp/install.log
    assert_succeeds "the user is a member of group confluence" sh -c "id -nG $name | grep -qw confluence"
    assert_equal "configuration" "$(stat -c '%a %U %G' $config)" "640 root $name"
    assert_equal "directory of the configuration" "$(stat -c '%a %U %G' /etc/$name)" "750 root $name"
    assert_equal "credentials" "$(stat -c '%a %U %G' /etc/$name/credentials)" "700 root root"
    assert_succeeds "check finds nothing wrong" runuser -u $name -- $name check --fast
    assert_succeeds "man page" test -e /usr/share/man/man5/$name.toml.5.gz
    assert_succeeds "alert rules" test -s /usr/share/$name/prometheus/$name.rules.yml
    assert_succeeds "detection rules" test -s /usr/share/$name/detections/elastic/rules.ndjson
    assert_succeeds "runbook of the alerts" test -s /usr/share/doc/$name/OPERATIONS.md
    [ "$family" = deb ] || assert_equal "rpm -V" "$(rpm -V $name)" ""
    $name --version
}

# Started by the one step, it is ready, reads through a home of mode 0700, and says how it is.
starts() {
    write_lines 20
    assert_succeeds "enable --now" systemctl enable --now $unit
    assert_equal "state" "$(state)" "enabled active"
    assert_delivered_once
    write_lines 20
    assert_delivered_once
    assert_succeeds "it says how it is" wait_for 15 sh -c "systemctl show -p StatusText --value $unit | grep -q following"
    assert_equal "state directory" "$(stat -c '%a %U' /var/lib/$name)" "700 $name"
    assert_equal "output" "$(stat -c '%a %U' $output)" "600 $name"
    assert_succeeds "nobody else reads the output" sh -c "! runuser -u tester -- cat $output"
}

# The socket of the admin endpoint is for the agent's group.
has_an_admin_socket() {
    local socket=/run/$name/admin.sock
    assert_equal "directory of the socket" "$(stat -c '%a %U %G' /run/$name)" "750 $name $name"
    assert_succeeds "the socket is there" wait_for 10 test -S $socket
    assert_equal "socket" "$(stat -c '%a %U %G' $socket)" "660 $name $name"
    assert_succeeds "another user does not reach it" sh -c "! runuser -u tester -- test -S $socket"
    assert_succeeds "status finds it" runuser -u $name -- $name status
    assert_equal "what it says" "$(sed -n 2p /tmp/out)" "all is well"
    assert_equal "exit code of status for another user" "$(runuser -u tester -- $name status >/dev/null 2>&1; echo $?)" 75
}

# A reload is a restart after a check. A wrong configuration leaves the running agent alone.
f64_reload() {
    local pid
    pid=$(property MainPID)
    assert_succeeds "reload" systemctl reload $unit
    assert_succeeds "it is another process" wait_for 20 other_pid "$pid"
    write_lines 5
    assert_delivered_once
    pid=$(property MainPID)
    cp $config /root/config
    printf '\n[nonsense]\nx = 1\n' >>$config
    assert_succeeds "a reload with a wrong configuration fails" sh -c "! systemctl reload $unit"
    cat /root/config >$config
    assert_equal "state" "$(property ActiveState) $(property MainPID) $(property NRestarts)" "active $pid 0"
    write_lines 5
    assert_delivered_once
}

f62_unit() {
    local score
    assert_succeeds "systemd-analyze verify" systemd-analyze verify --man=no $unit
    [ "$systemd" -lt 252 ] || assert_equal "what systemd-analyze verify says" "$(cat /tmp/out)" ""
    score=$(systemd-analyze security --no-pager $unit | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')
    echo "exposure score by systemd $systemd: $score"
    if [ "$systemd" -lt 252 ]; then
        skipped "systemd $systemd knows fewer ways to be shut in; the score counts from 252 on"
    else
        assert_succeeds "the score is 1.2 or lower" awk "BEGIN { exit !($score <= 1.2 && $score > 0) }"
    fi
    [ "$systemd" -lt 252 ] || assert_equal "lines of the unit that systemd does not understand" \
        "$(journalctl -b --no-pager -o cat | grep -cE "$name.*(Unknown|Failed to parse)")" 0
    systemctl daemon-reload

    # A wrong configuration: down at once, down it stays, and the journal says why.
    cp $config /root/config
    printf '\n[nonsense]\nx = 1\n' >>$config
    set_dropin RestartSec=1
    systemctl restart $unit 2>/dev/null
    sleep 4
    assert_equal "state after a wrong configuration" "$(property ActiveState) $(property ExecMainStatus) $(property NRestarts)" "failed 78 0"
    assert_succeeds "the journal has the reason" journal_has 'nonsense'
    cat /root/config >$config
    clear_dropin
    systemctl reset-failed $unit
    assert_succeeds "it starts with the right one" systemctl start $unit
    write_lines 5
    assert_delivered_once
}

is_killed() {
    local pid
    set_dropin RestartSec=1
    pid=$(property MainPID)
    write_lines 200
    signal KILL
    assert_succeeds "started again" wait_for 20 other_pid "$pid"
    assert_equal "restarts" "$(property NRestarts)" 1
    write_lines 5
    assert_delivered_once
    clear_dropin
}

starves_the_watchdog() {
    local pid
    set_dropin WatchdogSec=2 RestartSec=1
    systemctl restart $unit
    pid=$(property MainPID)
    sleep 5
    assert_equal "the process after two periods" "$(property MainPID)" "$pid"
    signal STOP
    assert_succeeds "started again" wait_for 30 other_pid "$pid"
    assert_succeeds "by the watchdog" journal_has 'Watchdog timeout'
    clear_dropin
    systemctl restart $unit
    write_lines 5
    assert_delivered_once
}

# The way to the audit files, when what was bound is created again.
gets_a_new_view() {
    local pid
    pid=$(property MainPID)
    rm -rf $audit
    runuser -u confluence -- mkdir -m 750 $audit
    write_lines 5
    assert_delivered_once
    assert_equal "the process after log/audit was created again" "$(property MainPID)" "$pid"
    set_dropin RestartSec=1
    rm -rf $home/log
    runuser -u confluence -- mkdir -m 750 -p $audit
    assert_succeeds "started again" wait_for 30 other_pid "$pid"
    assert_equal "its exit code" "$(journal | grep -c 'status=75')" 1
    write_lines 5
    assert_delivered_once
    clear_dropin
}

# Confluence makes its log directory after the agent has started: it is out of the service's sight at first.
finds_what_is_made_later() {
    systemctl stop $unit
    mv $home/log $home/log.away
    assert_succeeds "it starts without a directory to read" systemctl start $unit
    assert_succeeds "it says what it waits for" sh -c "systemctl show -p StatusText --value $unit | grep -q 'does not exist'"
    mv $home/log.away $home/log
    write_lines 5
    wait_for 90 all_delivered
    assert_delivered_once
}

# From inside: what the agent needs is allowed, and nothing else.
is_shut_in() {
    local probe=/var/lib/$name/probe.txt name_ verdict
    install -m 755 "$here/probe" /usr/local/bin/probe
    echo token >/etc/$name/credentials/token
    chmod 600 /etc/$name/credentials/token
    echo t >/root/t
    set_dropin Type=oneshot WatchdogSec=0 Restart=no ExecStartPre= ExecStart= "ExecStart=/usr/local/bin/probe $home" \
        ExecPaths=/usr/local/bin/probe
    systemctl stop $unit
    assert_succeeds "the probe runs" systemctl start $unit
    while IFS='=' read -r name_ verdict; do
        verdict=${verdict%% *}
        case $name_ in
        'write state' | 'write logs' | 'read audit' | 'read audit file' | 'read config' | 'socket unix')
            assert_equal "$name_" "$verdict" allowed
            ;;
        'read credential')
            if [ "$systemd" -ge 252 ]; then assert_equal "$name_" "$verdict" allowed; else assert_equal "$name_" "$verdict" refused; fi
            ;;
        'listen unix') assert_equal "$name_" "$verdict" allowed ;;
        'bind udp' | 'listen tcp' | 'listen tcp6')
            if [ "$verdict" = refused ]; then pass; else skipped "$name_: this machine or systemd $systemd cannot enforce it"; fi
            ;;
        'execute '*)
            if [ "$systemd" -ge 248 ]; then assert_equal "$name_" "$verdict" refused; else skipped "$name_: systemd $systemd cannot"; fi
            ;;
        *) assert_equal "$name_" "$verdict" refused ;;
        esac
    done <$probe
    assert_succeeds "the probe has reported at least 40 things" test "$(wc -l <$probe)" -ge 40
    rm -f /usr/local/bin/probe $probe /root/t /var/lib/$name/socket
    clear_dropin
    assert_succeeds "it starts with a credential" systemctl start $unit
    assert_succeeds "nobody else reads the credential" sh -c "! runuser -u tester -- cat /run/credentials/$unit/c_token"
    memory=/sys/fs/cgroup$(property ControlGroup)/memory.max
    if [ -f "$memory" ]; then assert_equal "memory limit" "$(cat "$memory")" $((384 * 1024 * 1024)); else skipped "no memory controller here"; fi
    write_lines 5
    assert_delivered_once
}

# A second instance by the template unit: its own configuration, its own state.
has_a_second_instance() {
    groupadd -f --system audit-readers
    usermod -aG audit-readers $name
    sed -e 's|^path = .*|path = "/var/log/confluence-audit-agent/second.ndjson"\nmode = "0640"\ngroup = "audit-readers"|' $config \
        >/etc/$name/second.toml
    chgrp $name /etc/$name/second.toml
    chmod 640 /etc/$name/second.toml
    # What docs/sinks/file.md allows for an output that belongs to a group.
    mkdir -p "/run/systemd/system/$name@second.service.d"
    printf '[Service]\nPrivateUsers=no\nSystemCallFilter=fchown\n' >"/run/systemd/system/$name@second.service.d/group.conf"
    systemctl daemon-reload
    assert_succeeds "the template verifies" systemd-analyze verify --man=no $name@second.service
    assert_succeeds "it starts" systemctl start $name@second.service
    assert_succeeds "it delivers" wait_for 20 sh -c "[ \"\$(wc -l </var/log/$name/second.ndjson)\" -ge 5 ]"
    assert_equal "its state" "$(stat -c '%a %U' /var/lib/$name-instances/second)" "700 $name"
    assert_equal "its output" "$(stat -c '%a %U %G' /var/log/$name/second.ndjson)" "640 $name audit-readers"
    assert_succeeds "it stops" systemctl stop $name@second.service
    rm -r /etc/$name/second.toml "/run/systemd/system/$name@second.service.d"
    systemctl daemon-reload
}

# An instance that needs the network, which is not there and will not come.
polls_an_api() {
    echo token >/etc/$name/api.token
    printf '%s\n' '[[source]]' 'name = "api"' 'type = "data_center"' 'url = "https://192.0.2.1:8443"' \
        "personal_access_token = { file = \"/etc/$name/api.token\" }" \
        '[[sink]]' 'name = "local"' 'type = "file"' "path = \"/var/log/$name/api.ndjson\"" >/etc/$name/api.toml
    chgrp $name /etc/$name/api.t*
    chmod 640 /etc/$name/api.t*
    assert_succeeds "it starts" systemctl enable --now $name@api.service
}

# There was no network at boot, nobody started it by hand, and it runs.
f62_boot_without_network() {
    assert_equal "interfaces" "$(find /sys/class/net -mindepth 1 -printf '%f ')" "lo "
    assert_equal "state after the boot" "$(state)" "enabled active"
    assert_equal "restarts since the boot" "$(restarts $unit)" 0
    assert_succeeds "the instance that polls is there" systemctl is-active $name@api.service
    assert_equal "its restarts since the boot" "$(restarts $name@api.service)" 0
    assert_succeeds "it says what is wrong" wait_for 40 sh -c "systemctl show -p StatusText --value $name@api.service | grep -q '^api: .*192.0.2.1'"
    write_lines 10
    assert_delivered_once
}

f61_upgrade_matrix() {
    local pid kept
    # Upgrade: running, with an edited configuration, while Confluence writes.
    sed -i 's/^#namespace = .*/namespace = "edited"/' $config
    systemctl restart $unit
    pid=$(property MainPID)
    assert_equal "version" "$(version)" 0.0.1-1
    (sleep 1; exec "$here/guest.sh" write "$family") &
    install_package new upgrade
    assert_equal "exit code of the upgrade" $? 0
    wait
    lines=$(cat /root/lines)
    assert_equal "version" "$(version)" "$(cat "$here/version")-1"
    assert_succeeds "started again" other_pid "$pid"
    assert_equal "state" "$(state)" "enabled active"
    assert_succeeds "the instance runs" systemctl is-active $name@api.service
    assert_succeeds "the edited configuration is kept" grep -q '^namespace = "edited"' $config
    kept=$config.dpkg-dist
    [ "$family" = deb ] || kept=$config.rpmnew
    assert_succeeds "the new default is next to it" grep -q '^#namespace' "$kept"
    assert_equal "mode of the configuration" "$(stat -c '%a %G' $config)" "640 $name"
    assert_delivered_once
    # The agent's own events may have it as well.
    assert_equal "events with the edit" "$(grep '"namespace":"edited"' $output | grep -vc '"action":"agent\.')" 300

    # Stopped and disabled it stays so.
    systemctl disable -q --now $unit
    install_package new reinstall
    assert_equal "state after the same version again" "$(state)" "disabled inactive"
    write_lines 5
    systemctl enable -q --now $unit
    assert_delivered_once

    # Downgrade, and back.
    install_package old downgrade
    assert_equal "version after the downgrade" "$(version)" 0.0.1-1
    assert_equal "state after the downgrade" "$(state)" "enabled active"
    write_lines 5
    assert_delivered_once
    install_package new upgrade
    write_lines 5
    assert_delivered_once
    assert_succeeds "the edited configuration is kept" grep -q '^namespace = "edited"' $config

    # Removed: stopped, and its state and configuration stay.
    remove_package
    assert_equal "exit code of the removal" $? 0
    assert_equal "processes of a removed agent" "$(pgrep -c -x "${name:0:15}")" 0
    assert_succeeds "the program is gone" test ! -e /usr/bin/$name
    assert_succeeds "the state stays" test -e /var/lib/$name/db
    assert_succeeds "the output stays" test -s $output
    if [ "$family" = deb ]; then
        assert_succeeds "the configuration stays" grep -q '^namespace = "edited"' $config
    else
        assert_succeeds "the edited configuration stays as rpm keeps it" grep -q '^namespace = "edited"' $config.rpmsave
    fi
    write_lines 5
    install_package new
    [ "$family" = deb ] || cat $config.rpmsave >$config
    assert_succeeds "it starts again" systemctl enable --now $unit
    assert_delivered_once
    assert_succeeds "events of the time between carry the edit" sh -c "tail -n 5 $output | grep -q '\"namespace\":\"edited\"'"

    # Purged: nothing is left.
    if [ "$family" = deb ]; then
        dpkg -P $name >/tmp/purge.log 2>&1
        assert_equal "exit code of the purge" $? 0
    else
        # As docs/DEPLOY.md says for rpm, which has no purge.
        remove_package
        rm -rf "/etc/${name:?}" /var/lib/$name /var/lib/$name-instances /var/log/$name
        userdel $name
    fi
    files >/root/files-after
    assert_equal "files that are left" "$(diff /root/files-before /root/files-after)" ""
    assert_succeeds "no user is left" sh -c "! getent passwd $name"
    assert_succeeds "no group is left" sh -c "! getent group $name"
    assert_equal "the unit" "$(systemctl show -p LoadState --value $unit)" not-found
}

case $phase in
before)
    echo "# systemd $systemd, $(. /etc/os-release && echo "$PRETTY_NAME"), $family"
    a_confluence_host
    for test in installs starts has_an_admin_socket f64_reload f62_unit is_killed starves_the_watchdog is_shut_in has_a_second_instance gets_a_new_view; do
        $test
    done
    if [ "$family" = deb ]; then finds_what_is_made_later; fi
    polls_an_api
    ;;
after)
    for test in f62_boot_without_network f61_upgrade_matrix; do
        $test
    done
    ;;
write)
    write_lines 300
    exit
    ;;
esac
echo "$passed passed, $failed failed"
if [ "$failed" != 0 ]; then
    cat /tmp/install.log
    journal | tail -n 40
fi
[ "$failed" = 0 ]

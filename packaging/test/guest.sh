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

ok() { passed=$((passed + 1)); }
no() {
    failed=$((failed + 1))
    echo "FAILED ${FUNCNAME[2]}: $*"
}
# is WHAT GOT WANTED
is() { if [ "$2" = "$3" ]; then ok; else no "$1 is '$2', not '$3'"; fi; }
# that WHAT COMMAND…
that() {
    local what=$1
    shift
    if "$@" >/tmp/out 2>&1; then ok; else no "$what: $(tail -n 3 /tmp/out)"; fi
}
# soon SECONDS COMMAND…: waits until it succeeds
soon() {
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
# error"), and the start ends with 219/CGROUP before anything of the package runs. Such a start is tried again, once, and said.
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
said() { journal | grep -q -- "$1"; }
# signal SIG: to the agent, and never to 0, which would be everyone here
signal() {
    local pid
    pid=$(property MainPID)
    [ "$pid" -gt 1 ] && kill "-$1" "$pid"
}
other_pid() { [ "$(property MainPID)" != "$1" ] && [ "$(property MainPID)" -gt 1 ] && systemctl is-active -q $unit; }
dropin() {
    mkdir -p /run/systemd/system/$unit.d
    printf '[Service]\n%s\n' "$@" | sed '2,${/^\[Service\]$/d}' >/run/systemd/system/$unit.d/test.conf
    systemctl daemon-reload
}
no_dropin() {
    rm -rf /run/systemd/system/$unit.d
    systemctl daemon-reload
}

# Confluence writes the next so many lines, as its own user.
lines=$(cat /root/lines 2>/dev/null || echo 0)
writes() {
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
all_there() { [ "$(numbers | sort -u | wc -l)" -ge "$lines" ]; }
delivered_once() {
    soon 30 all_there
    is "events in the output" "$(numbers | wc -l)" "$lines"
    is "different events in the output" "$(numbers | sort -u | wc -l)" "$lines"
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
    is "exit code of the installation" $? 0
    is "state" "$(state)" "disabled inactive"
    that "the next step is named" grep -q "systemctl enable --now $name" /tmp/install.log
    that "the user is a member of group confluence" sh -c "id -nG $name | grep -qw confluence"
    is "configuration" "$(stat -c '%a %U %G' $config)" "640 root $name"
    is "directory of the configuration" "$(stat -c '%a %U %G' /etc/$name)" "750 root $name"
    is "credentials" "$(stat -c '%a %U %G' /etc/$name/credentials)" "700 root root"
    that "check finds nothing wrong" runuser -u $name -- $name check --fast
    that "man page" test -e /usr/share/man/man5/$name.toml.5.gz
    [ "$family" = deb ] || is "rpm -V" "$(rpm -V $name)" ""
    $name --version
}

# Started by the one step, it is ready, reads through a home of mode 0700, and says how it is.
starts() {
    writes 20
    that "enable --now" systemctl enable --now $unit
    is "state" "$(state)" "enabled active"
    delivered_once
    writes 20
    delivered_once
    that "it says how it is" soon 15 sh -c "systemctl show -p StatusText --value $unit | grep -q following"
    is "state directory" "$(stat -c '%a %U' /var/lib/$name)" "700 $name"
    is "output" "$(stat -c '%a %U' $output)" "600 $name"
    that "nobody else reads the output" sh -c "! runuser -u tester -- cat $output"
}

f62_unit() {
    local score
    that "systemd-analyze verify" systemd-analyze verify --man=no $unit
    [ "$systemd" -lt 252 ] || is "what systemd-analyze verify says" "$(cat /tmp/out)" ""
    score=$(systemd-analyze security --no-pager $unit | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')
    echo "exposure score by systemd $systemd: $score"
    if [ "$systemd" -lt 252 ]; then
        skipped "systemd $systemd knows fewer ways to be shut in; the score counts from 252 on"
    else
        that "the score is 1.2 or lower" awk "BEGIN { exit !($score <= 1.2 && $score > 0) }"
    fi
    [ "$systemd" -lt 252 ] || is "lines of the unit that systemd does not understand" \
        "$(journalctl -b --no-pager -o cat | grep -cE "$name.*(Unknown|Failed to parse)")" 0
    systemctl daemon-reload

    # A wrong configuration: down at once, down it stays, and the journal says why.
    cp $config /root/config
    printf '\n[nonsense]\nx = 1\n' >>$config
    dropin RestartSec=1
    systemctl restart $unit 2>/dev/null
    sleep 4
    is "state after a wrong configuration" "$(property ActiveState) $(property ExecMainStatus) $(property NRestarts)" "failed 78 0"
    that "the journal has the reason" said 'nonsense'
    cat /root/config >$config
    no_dropin
    systemctl reset-failed $unit
    that "it starts with the right one" systemctl start $unit
    writes 5
    delivered_once
}

is_killed() {
    local pid
    dropin RestartSec=1
    pid=$(property MainPID)
    writes 200
    signal KILL
    that "started again" soon 20 other_pid "$pid"
    is "restarts" "$(property NRestarts)" 1
    writes 5
    delivered_once
    no_dropin
}

starves_the_watchdog() {
    local pid
    dropin WatchdogSec=2 RestartSec=1
    systemctl restart $unit
    pid=$(property MainPID)
    sleep 5
    is "the process after two periods" "$(property MainPID)" "$pid"
    signal STOP
    that "started again" soon 30 other_pid "$pid"
    that "by the watchdog" said 'Watchdog timeout'
    no_dropin
    systemctl restart $unit
    writes 5
    delivered_once
}

# The way to the audit files, when what was bound is created again.
gets_a_new_view() {
    local pid
    pid=$(property MainPID)
    rm -rf $audit
    runuser -u confluence -- mkdir -m 750 $audit
    writes 5
    delivered_once
    is "the process after log/audit was created again" "$(property MainPID)" "$pid"
    dropin RestartSec=1
    rm -rf $home/log
    runuser -u confluence -- mkdir -m 750 -p $audit
    that "started again" soon 30 other_pid "$pid"
    is "its exit code" "$(journal | grep -c 'status=75')" 1
    writes 5
    delivered_once
    no_dropin
}

# Confluence makes its log directory after the agent has started: it is out of the service's sight at first.
finds_what_is_made_later() {
    systemctl stop $unit
    mv $home/log $home/log.away
    that "it starts without a directory to read" systemctl start $unit
    that "it says what it waits for" sh -c "systemctl show -p StatusText --value $unit | grep -q 'does not exist'"
    mv $home/log.away $home/log
    writes 5
    soon 90 all_there
    delivered_once
}

# From inside: what the agent needs is allowed, and nothing else.
is_shut_in() {
    local probe=/var/lib/$name/probe.txt name_ verdict
    install -m 755 "$here/probe" /usr/local/bin/probe
    echo token >/etc/$name/credentials/token
    chmod 600 /etc/$name/credentials/token
    echo t >/root/t
    dropin Type=oneshot WatchdogSec=0 Restart=no ExecStartPre= ExecStart= "ExecStart=/usr/local/bin/probe $home" \
        ExecPaths=/usr/local/bin/probe
    systemctl stop $unit
    that "the probe runs" systemctl start $unit
    while IFS='=' read -r name_ verdict; do
        verdict=${verdict%% *}
        case $name_ in
        'write state' | 'write logs' | 'read audit' | 'read audit file' | 'read config' | 'socket unix')
            is "$name_" "$verdict" allowed
            ;;
        'read credential')
            if [ "$systemd" -ge 252 ]; then is "$name_" "$verdict" allowed; else is "$name_" "$verdict" refused; fi
            ;;
        'bind udp')
            if [ "$verdict" = refused ]; then ok; else skipped "$name_: this machine or systemd $systemd cannot enforce it"; fi
            ;;
        'execute '*)
            if [ "$systemd" -ge 248 ]; then is "$name_" "$verdict" refused; else skipped "$name_: systemd $systemd cannot"; fi
            ;;
        *) is "$name_" "$verdict" refused ;;
        esac
    done <$probe
    that "the probe has reported at least 40 things" test "$(wc -l <$probe)" -ge 40
    rm -f /usr/local/bin/probe $probe /root/t /var/lib/$name/socket
    no_dropin
    that "it starts with a credential" systemctl start $unit
    that "nobody else reads the credential" sh -c "! runuser -u tester -- cat /run/credentials/$unit/c_token"
    memory=/sys/fs/cgroup$(property ControlGroup)/memory.max
    if [ -f "$memory" ]; then is "memory limit" "$(cat "$memory")" $((384 * 1024 * 1024)); else skipped "no memory controller here"; fi
    writes 5
    delivered_once
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
    that "the template verifies" systemd-analyze verify --man=no $name@second.service
    that "it starts" systemctl start $name@second.service
    that "it delivers" soon 20 sh -c "[ \"\$(wc -l </var/log/$name/second.ndjson)\" -ge 5 ]"
    is "its state" "$(stat -c '%a %U' /var/lib/$name-instances/second)" "700 $name"
    is "its output" "$(stat -c '%a %U %G' /var/log/$name/second.ndjson)" "640 $name audit-readers"
    that "it stops" systemctl stop $name@second.service
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
    that "it starts" systemctl enable --now $name@api.service
}

# There was no network at boot, nobody started it by hand, and it runs.
f62_boot_without_network() {
    is "interfaces" "$(find /sys/class/net -mindepth 1 -printf '%f ')" "lo "
    is "state after the boot" "$(state)" "enabled active"
    is "restarts since the boot" "$(restarts $unit)" 0
    that "the instance that polls is there" systemctl is-active $name@api.service
    is "its restarts since the boot" "$(restarts $name@api.service)" 0
    that "it says what is wrong" soon 40 sh -c "systemctl show -p StatusText --value $name@api.service | grep -q '^api: .*192.0.2.1'"
    writes 10
    delivered_once
}

f61_upgrade_matrix() {
    local pid kept
    # Upgrade: running, with an edited configuration, while Confluence writes.
    sed -i 's/^#namespace = .*/namespace = "edited"/' $config
    systemctl restart $unit
    pid=$(property MainPID)
    is "version" "$(version)" 0.0.1-1
    (sleep 1; exec "$here/guest.sh" write "$family") &
    install_package new upgrade
    is "exit code of the upgrade" $? 0
    wait
    lines=$(cat /root/lines)
    is "version" "$(version)" "$(cat "$here/version")-1"
    that "started again" other_pid "$pid"
    is "state" "$(state)" "enabled active"
    that "the instance runs" systemctl is-active $name@api.service
    that "the edited configuration is kept" grep -q '^namespace = "edited"' $config
    kept=$config.dpkg-dist
    [ "$family" = deb ] || kept=$config.rpmnew
    that "the new default is next to it" grep -q '^#namespace' "$kept"
    is "mode of the configuration" "$(stat -c '%a %G' $config)" "640 $name"
    delivered_once
    is "events with the edit" "$(grep -c '"namespace":"edited"' $output)" 300

    # Stopped and disabled it stays so.
    systemctl disable -q --now $unit
    install_package new reinstall
    is "state after the same version again" "$(state)" "disabled inactive"
    writes 5
    systemctl enable -q --now $unit
    delivered_once

    # Downgrade, and back.
    install_package old downgrade
    is "version after the downgrade" "$(version)" 0.0.1-1
    is "state after the downgrade" "$(state)" "enabled active"
    writes 5
    delivered_once
    install_package new upgrade
    writes 5
    delivered_once
    that "the edited configuration is kept" grep -q '^namespace = "edited"' $config

    # Removed: stopped, and its state and configuration stay.
    remove_package
    is "exit code of the removal" $? 0
    is "processes of a removed agent" "$(pgrep -c -x "${name:0:15}")" 0
    that "the program is gone" test ! -e /usr/bin/$name
    that "the state stays" test -e /var/lib/$name/db
    that "the output stays" test -s $output
    if [ "$family" = deb ]; then
        that "the configuration stays" grep -q '^namespace = "edited"' $config
    else
        that "the edited configuration stays as rpm keeps it" grep -q '^namespace = "edited"' $config.rpmsave
    fi
    writes 5
    install_package new
    [ "$family" = deb ] || cat $config.rpmsave >$config
    that "it starts again" systemctl enable --now $unit
    delivered_once
    that "events of the time between carry the edit" sh -c "tail -n 5 $output | grep -q '\"namespace\":\"edited\"'"

    # Purged: nothing is left.
    if [ "$family" = deb ]; then
        dpkg -P $name >/tmp/purge.log 2>&1
        is "exit code of the purge" $? 0
    else
        # As docs/DEPLOY.md says for rpm, which has no purge.
        remove_package
        rm -rf "/etc/${name:?}" /var/lib/$name /var/lib/$name-instances /var/log/$name
        userdel $name
    fi
    files >/root/files-after
    is "files that are left" "$(diff /root/files-before /root/files-after)" ""
    that "no user is left" sh -c "! getent passwd $name"
    that "no group is left" sh -c "! getent group $name"
    is "the unit" "$(systemctl show -p LoadState --value $unit)" not-found
}

case $phase in
before)
    echo "# systemd $systemd, $(. /etc/os-release && echo "$PRETTY_NAME"), $family"
    a_confluence_host
    for test in installs starts f62_unit is_killed starves_the_watchdog is_shut_in has_a_second_instance gets_a_new_view; do
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
    writes 300
    exit
    ;;
esac
echo "$passed passed, $failed failed"
if [ "$failed" != 0 ]; then
    cat /tmp/install.log
    journal | tail -n 40
fi
[ "$failed" = 0 ]

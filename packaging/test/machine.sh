# Machines with a real systemd as PID 1, for packaging/test.sh: a tree of files, booted by systemd-nspawn. The host need not run
# systemd, and may have the old cgroups: the machine gets its own mounts and a cgroup2 of its own.
# shellcheck shell=bash

# PID of nspawn, and PID of the machine's PID 1.
machine='' init=''

# boot TREE: waits until it is up.
boot() {
    local tree=$1 log=$1.boot.log child
    # SocketBindDeny= and IPAddressDeny= are BPF programs.
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 setsid unshare --mount --propagation private bash -c '
        umount --recursive --lazy /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
        exec systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe \
            --capability=all --system-call-filter="bpf perf_event_open" --directory="$1" --boot' _ "$tree" \
        </dev/null >"$log" 2>&1 &
    machine=$!
    for _ in $(seq 300); do
        sleep 0.1
        for child in $(cat /proc/$machine/task/$machine/children 2>/dev/null); do
            if [ "$(cat "/proc/$child/comm" 2>/dev/null)" = systemd ] &&
                [ "$(readlink "/proc/$child/ns/pid")" != "$(readlink /proc/self/ns/pid)" ] &&
                nsenter --target "$child" --all -- test -S /run/dbus/system_bus_socket; then
                init=$child
                inside timeout 60 systemctl is-system-running --wait >/dev/null || :
                return 0
            fi
        done
        kill -0 $machine 2>/dev/null || break
    done
    echo "$tree does not boot:" >&2
    tail -n 20 "$log" >&2
    return 1
}

inside() {
    nsenter --target "$init" --all -- "$@"
}

# halt: in order, or by force.
halt() {
    inside systemctl poweroff 2>/dev/null || :
    for _ in $(seq 200); do
        kill -0 "$machine" 2>/dev/null || break
        sleep 0.1
    done
    stop_at_once
}

stop_at_once() {
    if [ -n "$machine" ] && kill -0 "$machine" 2>/dev/null; then
        kill -KILL ${init:+"$init"} "$machine" 2>/dev/null || :
    fi
    machine='' init=''
}

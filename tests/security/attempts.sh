# Ways out, tried by a step in a container, where there is no Python. As attempts.py.
got() { printf 'OUT %s\n' "$*"; }
for path in "$HOME_/.ssh/id_canary" "$STATE/node.db" "$STATE/keeper.key" "$OTHER/worker.json" "$OTHER/node.db"; do
    for root in "" /proc/1/root /proc/self/root "$PWD/../../../../../.."; do
        cat "$root$path" >/dev/null 2>&1 && got "file $root$path"
    done
done
for socket in "$STATE/keeper" "$OTHER/keeper" "$WAKEUP" /run/docker.sock /run/podman/podman.sock; do
    [ -e "$socket" ] && got "socket $socket"
done
for file in /proc/*/environ; do
    grep -q "$SECRET" "$file" 2>/dev/null && got "environment $file"
done
for pid in $PIDS; do
    if [ -d "/proc/$pid" ] && grep -q wes_bridge "/proc/$pid/cmdline" 2>/dev/null; then
        kill -9 "$pid" 2>/dev/null && got "killed $pid"
    fi
done
for host in 127.0.0.1 localhost 10.0.2.2 $(ip route 2>/dev/null | sed -n 's/^default via \([^ ]*\).*/\1/p'); do
    for port in $PORT $LOOPBACK; do
        nc -w 1 "$host" "$port" </dev/null >/dev/null 2>&1 && got "$host port $port"
    done
done
mount -o bind / /tmp 2>/dev/null && got mount
mount -o remount,rw /proc/sys 2>/dev/null && got remount
unshare -m true 2>/dev/null && got unshare
for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sysrq-trigger \
    /sys/kernel/uevent_helper /sys/fs/cgroup/release_agent; do
    [ -e "$file" ] && (printf 0 >"$file") 2>/dev/null && got "wrote $file"
done
for device in "mem c 1 1" "disk b 8 0" "disk2 b 254 0"; do
    set -- $device
    rm -f "/tmp/$1"
    mknod "/tmp/$1" "$2" "$3" "$4" 2>/dev/null && dd if="/tmp/$1" of=/dev/null count=1 2>/dev/null && got "device $device"
done
for device in /dev/mem /dev/kmsg /dev/sda /dev/vda /dev/fuse; do
    dd if=$device of=/dev/null count=1 2>/dev/null && got "device $device"
done
printf '#!/bin/sh\nid\n' >program
chmod 6755 program
ln -s "$HOME_/.ssh/id_canary" link
ln -s "$HOME_" folder
mkfifo pipe
echo tried

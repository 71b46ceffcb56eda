#!/bin/sh
# Makes a Debian 12 that qemu can start: disk.img, kernel, initrd, and key, by which root may log in over ssh.
# As root, with debootstrap; some minutes.
#
# usage: machine_image.sh FOLDER
set -eu
folder=$1
root=$folder/root

rm -rf "$folder"
mkdir -p "$folder"
# Debian's standard kernel: the one for the cloud lacks the virtual camera, vivid.
debootstrap --variant=minbase --include=\
linux-image-amd64,systemd-sysv,udev,dbus,kmod,iproute2,openssh-server,i2c-tools,python3-venv bookworm "$root"

echo edge-machine >"$root/etc/hostname"
echo "127.0.0.1 localhost edge-machine" >"$root/etc/hosts"
printf "/dev/vda / ext4 defaults 0 1\n/dev/vdb /mnt ext4 ro 0 0\n" >"$root/etc/fstab"
# Without a gateway: it reaches the machine that runs it, as 10.0.2.2, and nothing else.
printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\n' >"$root/etc/systemd/network/qemu.network"
chroot "$root" systemctl enable --quiet systemd-networkd.service

# One camera, nothing else of what vivid can be.
echo "options vivid n_devs=1 node_types=0x1" >"$root/etc/modprobe.d/camera.conf"
echo vivid >"$root/etc/modules-load.d/camera.conf"

ssh-keygen -q -t ed25519 -N '' -C '' -f "$folder/key"
install -D -m 600 "$folder/key.pub" "$root/root/.ssh/authorized_keys"

cp "$root"/boot/vmlinuz-* "$folder/kernel"
cp "$root"/boot/initrd.img-* "$folder/initrd"
rm -rf "$root"/var/cache/apt/archives/*.deb
mkfs.ext4 -q -F -L root -d "$root" "$folder/disk.img" 6G
rm -rf "$root"
cp "$0" "$folder/made-by" # last: it is complete, and of this recipe

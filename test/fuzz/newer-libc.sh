#!/usr/bin/env bash
# Unpacks the C and C++ libraries of Debian 13 into a folder: the addon of Jazzer.js needs glibc 2.38, and Debian 12 has
# 2.36. Nothing of the system is changed, and apt verifies the packages.
set -euo pipefail
folder=$(realpath --canonicalize-missing "$1")

[[ -e $folder/lib/libc.so.6 ]] && exit 0
rm -rf "$folder"
mkdir -p "$folder"/{lists,cache,debs}
echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main' \
  >"$folder/sources.list"
apt=(
  apt-get -qq -o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache" -o APT::Sandbox::User=root
)
"${apt[@]}" update
(cd "$folder/debs" && "${apt[@]}" download libc6 libstdc++6 libgcc-s1)
for package in "$folder"/debs/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
mkdir "$folder/new"
cp -a "$folder"/root/usr/lib/*-linux-gnu/*.so* "$folder/new/"
mv "$folder/new" "$folder/lib"
rm -rf "$folder"/{lists,cache,debs,root}

# Production and the batch system of the node guest, ready to be started one at a time.
set -eu
dd if=/dev/urandom of=/var/www/html/page bs=4k count=1 status=none
printf 'save ""\n' >>/etc/redis/redis.conf

systemctl start postgresql@15-main
hba=/etc/postgresql/15/main/pg_hba.conf
{ echo 'host load load 127.0.0.1/32 trust'; cat $hba; } >$hba.new
chown postgres:postgres $hba.new
chmod 640 $hba.new
mv $hba.new $hba
systemctl reload postgresql@15-main
su postgres -c 'psql -q -c "create role load login" -c "create database load owner load"'
psql -q -h 127.0.0.1 -U load load -c 'create table accounts as select aid, 0 as balance from generate_series(1, 20000) aid' \
    -c 'alter table accounts add primary key (aid)' -c 'vacuum analyze accounts'
systemctl stop postgresql@15-main

install -d -o slurm -g slurm /var/lib/slurm/slurmctld /var/log/slurm
install -d -m 755 /etc/slurm /var/lib/slurm/slurmd
install -d -o alice -g alice /home/alice/antagonist
chmod 755 /usr/local/bin/loadgen /usr/local/bin/benchprobe

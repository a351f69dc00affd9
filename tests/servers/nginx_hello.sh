# The nginx of tests/real_servers.rs. It takes inherited sockets from the variable NGINX, which its own upgrade of the
# binary passes on, and gives each to the "listen" of the same address. Idle connections it closes when it stops,
# with a request perhaps on its way: it keeps none.
set -eu
directory=$SCRATCH/nginx-$$
mkdir "$directory"
cat >"$directory/nginx.conf" <<END
daemon off;
pid $directory/pid;
error_log stderr;
worker_processes 1;
events { }
http {
    access_log off;
    keepalive_timeout 0;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    scgi_temp_path $directory/scgi;
    uwsgi_temp_path $directory/uwsgi;
    server {
        listen ${SERVER_STARTER_PORT%=*} backlog=4096;
        location / {
            add_header X-Worker "\$pid $EINHORN_GENERATION";
            return 200 "generation $EINHORN_GENERATION, worker \$pid\n";
        }
    }
}
END
NGINX="$EINHORN_FD_0;" exec nginx -c "$directory/nginx.conf"

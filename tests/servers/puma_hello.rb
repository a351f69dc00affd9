# How puma is set up in tests/real_servers.rs: without its queue of requests it keeps no connection alive. It would
# close the idle ones when it stops, with a request perhaps on its way.
queue_requests false
threads 8, 8
environment "production"

# The application that Starlet runs in tests/real_servers.rs. systemd-notify(1) acks for it, once one of Starlet's own
# workers has loaded it.
use strict;
use warnings;

my $generation = $ENV{EINHORN_GENERATION} // 0;
if ($ENV{NOTIFY_SOCKET}) {
    system('systemd-notify', '--ready') == 0 or die "systemd-notify: $?";
}

sub {
    my $body = "generation $generation, worker $$\n";
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $body,
                  'X-Worker' => "$$ $generation"], [$body]];
};

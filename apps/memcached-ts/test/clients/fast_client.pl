# Cache::Memcached::Fast, Perl's client in C. Usage: fast_client.pl PORT; prints "ok" at its end.
use strict;
use warnings;
use Cache::Memcached::Fast;

my $port = shift @ARGV;
my $memd = Cache::Memcached::Fast->new({
    servers => ["127.0.0.1:$port"], utf8 => 1, io_timeout => 30, connect_timeout => 30,
    max_size => 2 * 1024 * 1024, compress_threshold => -1,
});

sub check { my ($what, $ok) = @_; $ok or die "failed: $what\n"; }
sub same { my ($what, $got, $want) = @_; check("$what: got " . ($got // 'undef'), defined $got && $got eq $want); }

$memd->flush_all;
same('set', $memd->set('key', "line\r\nend\0"), 1);
same('get', $memd->get('key'), "line\r\nend\0");
check('get of nothing', !defined $memd->get('nothing'));
check('a structure', join(',', @{($memd->set('list', [1, 'two', 3]), $memd->get('list'))[1]}) eq '1,two,3');
my $large = join '', map { chr($_ % 251) } 1 .. 1_048_000;
check('a large value is stored', $memd->set('large', $large));
check('a large value comes back', $memd->get('large') eq $large);
check('a larger one is refused', !$memd->set('large', 'x' x 1_048_577));

check('delete', $memd->delete('key'));
same('replace of nothing', $memd->replace('key', 'x'), '');
same('add', $memd->add('key', 'b'), 1);
same('add again', $memd->add('key', 'x'), '');
same('append', $memd->append('key', 'c'), 1);
same('prepend', $memd->prepend('key', 'a'), 1);
my $cas = $memd->gets('key');
same('gets', $cas->[1], 'abc');
same('cas', $memd->cas('key', $cas->[0], 'new'), 1);
same('cas again', $memd->cas('key', $cas->[0], 'newer'), '');

$memd->set('n', 10);
same('incr', $memd->incr('n', 5), 15);
same('decr', $memd->decr('n', 20) + 0, 0);
same('touch', $memd->touch('n', 100), 1);

my @many = map { ["multi$_", "value $_"] } 1 .. 1000;
check('set_multi', !grep { !$_ } values %{$memd->set_multi(@many)});
my $got = $memd->get_multi('nothing', map { $_->[0] } @many);
check('get_multi', keys %$got == 1000 && !grep { $got->{$_->[0]} ne $_->[1] } @many);
check('gets_multi', keys %{$memd->gets_multi(map { $_->[0] } @many)} == 1000);
check('delete_multi', !grep { !$_ } values %{$memd->delete_multi(map { $_->[0] } @many)});

# Without a reply: void context.
$memd->set("quiet$_", $_) for 1 .. 1000;
$memd->nowait_push;
same('a quiet set', $memd->get('quiet1000'), 1000);
check('versions', (values %{$memd->server_versions})[0] =~ /^1\.6\./);
print "ok\n";

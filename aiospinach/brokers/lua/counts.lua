#!lua flags=no-writes
-- Counts the jobs of a queue.
-- KEYS   jobs leases future dead bad
-- ARGV   none
-- answer {now, ready, running, waiting, dead}
-- repeat counts again
local running, scheduled = call('ZCARD', leases), call('ZCARD', future)
local due = call('ZCOUNT', future, '-inf', now)
local unreadable = call('LLEN', bad)
local queued = call('HLEN', jobs) - running - scheduled - unreadable
return {now, math.max(0, queued) + due, running, scheduled - due, call('ZCARD', dead)}

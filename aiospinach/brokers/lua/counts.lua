#!lua flags=no-writes
-- Counts the jobs of a queue.
-- KEYS   jobs leases future cancels dead bad
-- needs  lists
-- ARGV   none
-- answer {now, ready, running, waiting, dead}
-- repeat counts again
local running, scheduled = call('ZCARD', leases), call('ZCARD', future)
local due = call('ZCOUNT', future, '-inf', now)
local unreadable = call('LLEN', bad)
local tombstones = call('SCARD', cancels)
if tombstones > 0 then -- the others in there are of running jobs, which are few
  for _, found in ipairs(looked_up('SMISMEMBER', cancels, call('ZRANGE', leases, 0, -1))) do
    tombstones = tombstones - found
  end
end
local queued = call('HLEN', jobs) - running - scheduled - unreadable - tombstones
return {now, math.max(0, queued) + due, running, scheduled - due, call('ZCARD', dead)}

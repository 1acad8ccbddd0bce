-- Stores dead jobs, and removes old ones. A queue keeps the last DEAD_AT_MOST dead jobs, for DEAD_FOR milliseconds: 180
-- days.
local DEAD_AT_MOST = 10000
local DEAD_FOR = 15552000000

local function add_dead(id, envelope, detail)
  call('HSET', deadjobs, id, now .. ' ' .. #envelope .. '\n' .. envelope .. detail)
  local latest = call('ZREVRANGE', dead, 0, 0, 'WITHSCORES')[2]
  call('ZADD', dead, math.max(now, (latest or 0) + 0.001), id) -- in order, also within a millisecond
end

local function prune_dead()
  local old = call('ZRANGEBYSCORE', dead, '-inf', now - DEAD_FOR, 'LIMIT', 0, CHUNK)
  local surplus = call('ZCARD', dead) - #old - DEAD_AT_MOST
  if surplus > 0 then
    old = call('ZRANGE', dead, 0, #old + math.min(surplus, CHUNK) - 1)
  end
  call_in_chunks('HDEL', deadjobs, old)
  call_in_chunks('ZREM', dead, old)
end

#!lua
-- The floor of schedule: stores jobs, and a repeat of the call adds nothing. Frozen: it must not get slower
-- or faster when aiospinach does.
-- KEYS ready jobs wake dedup:0 dedup:1
-- ARGV token, then id and envelope of each job in turn
local time = redis.call('TIME')
local window = math.floor(time[1] / 600)
if redis.call('SISMEMBER', KEYS[4], ARGV[1]) == 1 or redis.call('SISMEMBER', KEYS[5], ARGV[1]) == 1 then
  return 0
end
local ids = {}
for number = 2, #ARGV, 2 do
  ids[#ids + 1] = ARGV[number]
end
for first = 1, #ids, 1000 do
  for number, found in ipairs(redis.call('HMGET', KEYS[2], unpack(ids, first, math.min(first + 999, #ids)))) do
    if found then
      return redis.error_reply('id in use: ' .. ids[first + number - 1])
    end
  end
end
for first = 2, #ARGV, 2000 do
  redis.call('HSET', KEYS[2], unpack(ARGV, first, math.min(first + 1999, #ARGV)))
end
for first = 1, #ids, 1000 do
  redis.call('RPUSH', KEYS[1], unpack(ids, first, math.min(first + 999, #ids)))
end
redis.call('SADD', KEYS[4 + window % 2], ARGV[1])
redis.call('PEXPIREAT', KEYS[4 + window % 2], (window + 2) * 600000)
if redis.call('LLEN', KEYS[3]) == 0 then
  redis.call('RPUSH', KEYS[3], '1')
end
return #ids

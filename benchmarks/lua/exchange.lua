#!lua
-- The floor of drain: settles what is still leased, leases what is next. Frozen: it must not get slower or
-- faster when aiospinach does.
-- KEYS ready jobs leases sess wake
-- ARGV session, seq, want, lease (ms), then the leases that are settled
-- answer {now, fenced leases, leases, their envelopes}; the same for a repeat of the last call
local session, seq, want, length = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local suffix = ':' .. session .. '.' .. seq

local function leased(ids)
  local leases = {}
  for number, id in ipairs(ids) do
    leases[number] = id .. suffix
  end
  return leases, #ids > 0 and redis.call('HMGET', KEYS[2], unpack(ids)) or {}
end

local last = redis.call('GET', KEYS[4])
if last then
  local last_seq, taken = string.match(last, '^(%d+)\n(.*)$')
  if last_seq == seq then
    local ids = {}
    for id in string.gmatch(taken, '%S+') do
      ids[#ids + 1] = id
    end
    return {now, {}, leased(ids)}
  end
end

local fenced = {}
if #ARGV > 4 then
  local settled, ended = {}, {}
  for number, expiry in ipairs(redis.call('ZMSCORE', KEYS[3], unpack(ARGV, 5))) do
    local lease = ARGV[4 + number]
    if expiry then
      settled[#settled + 1] = lease
      ended[#ended + 1] = string.match(lease, '^(.*):[^:]*$')
    else
      fenced[#fenced + 1] = lease
    end
  end
  if #settled > 0 then
    redis.call('ZREM', KEYS[3], unpack(settled))
    redis.call('HDEL', KEYS[2], unpack(ended))
  end
end

local ids = want > 0 and redis.call('LPOP', KEYS[1], want) or {}
local leases, envelopes = leased(ids)
if #ids > 0 then
  local scores = {}
  for _, lease in ipairs(leases) do
    scores[#scores + 1] = now + length
    scores[#scores + 1] = lease
  end
  redis.call('ZADD', KEYS[3], unpack(scores))
end
redis.call('SET', KEYS[4], seq .. '\n' .. table.concat(ids, ' '), 'PX', length * 2)
if redis.call('LLEN', KEYS[1]) > 0 and redis.call('LLEN', KEYS[5]) == 0 then
  redis.call('RPUSH', KEYS[5], '1')
end
return {now, fenced, leases, envelopes}

#!lua flags=allow-oom
-- Makes tasks known.
-- KEYS   jobs leases slots limits periodic wake
-- needs  envelopes wake
-- ARGV   version of the limits that the caller knows; count, then for each: task, limit (0: none); then for each
--        periodic task: task, due
-- answer {now, {' version', version, task, limit, task, limit ...} in any order}
-- repeat sets the same again
local function moment_of(version) -- 0 if there is none, or other hands spoilt it
  return version and #version < 15 and string.find(version, '^%d+$') and tonumber(version) or 0
end

local known, count = moment_of(arg()), call('ZCARD', periodic)
local changed, newly_limited = false, {}
for _ = 1, tonumber(arg()) do
  local task, limit = arg(), arg()
  local before = call('HGET', limits, task) or '0'
  if before ~= limit then
    changed = true
    newly_limited[task] = (tonumber(before) or 0) <= 0 and tonumber(limit) > 0
    call('HSET', limits, task, limit)
  end
end
if next(newly_limited) then -- what runs already was leased without a slot
  for _, lease in ipairs(call('ZRANGE', leases, 0, -1)) do
    local id = id_of(lease)
    local envelope = id and call('HGET', jobs, id)
    local task = envelope and header(envelope)
    if newly_limited[task or ''] then -- guard: newly limited
      call('ZADD', slots, 0, task .. '\n' .. lease)
    end
  end
end
local is_renewed = changed
while position < #ARGV do
  local task, due = arg(), arg()
  local moved = call('ZADD', periodic, 'LT', 'CH', due, task) -- guard: earlier due
  changed = moved == 1 or changed
end
if call('ZCARD', periodic) > count then -- guard: new periodic task
  is_renewed = true
end
-- A version that never was there before, also if everything was flushed meanwhile, or the server has gone back to
-- what it was earlier. There always is one, and it only grows, so that its absence, or a lower one, tells of that.
local version = call('HGET', limits, ' version')
local is_older = moment_of(version) < known -- guard: older version
if is_renewed or is_older or not version then
  call('HSET', limits, ' version', string.format('%.0f', math.max(now, moment_of(version) + 1, known + 1)))
end
if changed then -- what may run now, or is due when, is another
  arm()
end
return {now, call('HGETALL', limits)}

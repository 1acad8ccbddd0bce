#!lua flags=allow-oom
-- Makes tasks known.
-- KEYS   jobs leases slots limits periodic wake
-- needs  envelopes wake
-- ARGV   count, then for each: task, limit (0: none); then for each periodic task: task, due
-- answer {now, {' version', version, task, limit, task, limit ...} in any order}
-- repeat sets the same again
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
-- A version that never was there before, also if everything was flushed meanwhile; there always is one, so
-- that its absence tells of that.
if changed or call('HEXISTS', limits, ' version') == 0 then
  local version = (tonumber(call('HGET', limits, ' version') or 0) or 0) + 1
  call('HSET', limits, ' version', string.format('%.0f', version < LAST_MOMENT and math.max(now, version) or now))
end
while position < #ARGV do
  local task, due = arg(), arg()
  local moved = call('ZADD', periodic, 'LT', 'CH', due, task) -- guard: earlier due
  changed = moved == 1 or changed
end
if changed then -- what may run now, or is due when, is another
  arm()
end
return {now, call('HGETALL', limits)}

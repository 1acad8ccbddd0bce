#!lua flags=allow-oom
-- Makes tasks known, and forgets limits of tasks that no worker has had for two weeks.
-- KEYS   ready leases slots control lanes open cancels periodic wake pauses
-- needs  chunks gates lanes notify
-- ARGV   epoch that the caller knows, name of the worker; count of tasks, then for each: task, limit (0: none), since when
--        it holds (0: now); then for each periodic task: task, due
-- answer {now, epoch, 1 if the server had lost earlier registrations, tasks whose running jobs the script adopt has to
--        count, each task whose limit has changed with its old limit (0: none)}
-- repeat sets the same again
local FORGOTTEN_AFTER, LOOKS, DAY = 14, 500, 86400000
local today = math.floor(now / DAY)
local known_epoch, worker, count = moment_of(arg()), arg(), call('ZCARD', periodic)
local changed, adopted, replaced = false, {}, {}
local is_busy = call('ZCARD', leases) > 0
local is_held_back = call('ZCARD', lanes) > 0
call('SCARD', open)
call('ZCARD', slots)
for _ = 1, tonumber(arg()) do
  local task, limit, since = arg(), tonumber(arg()), tonumber(arg())
  since = since > 0 and since or now
  local entry = call('HGET', control, task)
  local before, set_at = limit_in(entry), moment_of(entry and string.match(entry, '^%S+ (%S+)'))
  -- A limit that is registered again does not undo a later one.
  local is_later = since >= set_at -- guard: later limit
  if not is_later then
    call('HSET', control, task, (string.gsub(entry, '^(%S+ %S+) %d+', '%1 ' .. today)))
    if string.find(entry, ' %+%d+$') then -- guard: counted by nobody
      adopted[#adopted + 1] = task
    end
  else
    changed = changed or before ~= limit
    if entry and before ~= limit then
      replaced[#replaced + 1] = task
      replaced[#replaced + 1] = before
    end
    local words = limit .. ' ' .. string.format('%.0f', since) .. ' ' .. today .. ' ' .. worker
    local is_uncounted = string.find(entry or '', ' %+%d+$')
    if limit > 0 and (before == 0 and is_busy or is_uncounted) then -- guard: newly limited
      adopted[#adopted + 1] = task
      words = words .. ' +' .. string.format('%.0f', now)
    end
    call('HSET', control, task, words)
    if limit > 0 then
      has_limits = '1'
      call('HSET', control, ' limits', 1)
    end
  end
  if is_held_back then
    has_lanes = '1'
    call('HSET', control, ' lanes', 1)
    open_up(task)
  end
end
if call('HLEN', cancels) > 0 then
  call('HSET', control, ' cancels', 1)
end
if call('HLEN', pauses) > 0 then
  call('HSET', control, ' pauses', 1)
end
local sample = call('HRANDFIELD', control, LOOKS, 'WITHVALUES')
for number = 1, #sample, 2 do
  local task, seen = sample[number], string.match(sample[number + 1], '^%d+ %d+ (%d+)')
  local is_old = seen and today - seen > FORGOTTEN_AFTER -- guard: forgotten limit
  if is_old and string.sub(task, 1, 1) ~= ' ' and not first_in_lane(task, 1)[1] and
    call('ZLEXCOUNT', slots, '[' .. task .. '\n', '(' .. task .. '\n\255') == 0 then
    call('HDEL', control, task)
  end
end
local needs_new_epoch = changed
while position < #ARGV do
  local task, due = arg(), arg()
  local moved = call('ZADD', periodic, 'LT', 'CH', due, task) -- guard: earlier due
  changed = moved == 1 or changed
end
if call('ZCARD', periodic) > count then -- guard: new periodic task
  needs_new_epoch = true
end
-- The new epoch is later than every earlier one, even if the server was flushed or has gone back in time.
local epoch = moment_of(stored_epoch)
local is_older = epoch < known_epoch -- guard: older epoch
if needs_new_epoch or is_older or epoch == 0 then
  epoch = math.max(now, epoch + 1, known_epoch + 1)
  call('HSET', control, ' epoch', string.format('%.0f', epoch))
end
if changed then -- a limit or a due has changed
  notify()
end
return {now, epoch, is_older and 1 or 0, adopted, replaced}

#!lua flags=allow-oom
-- Queues what is due, and leases what was lost to the caller, to be judged; but nothing while it is calm.
-- KEYS   ready jobs leases slots future dead deadjobs control lanes open periodic wake looked
-- needs  chunks headers gates parking prune_dead quarantine notify rescue_pause
-- ARGV   session, number of this tick, lease (ms), grace (ms), count at most, then the periodic tasks that
--        the caller knows
-- answer {now, ms to what a tick has to do next (0: at once) or -1, lease and envelope of each lost job, periodic
--        task and due of each that is due}
-- repeat reads everything anew; what the first one leased to a caller that never heard of it is lost again
--        later
local session, tick, length, grace, most = arg(), arg(), tonumber(arg()), tonumber(arg()), tonumber(arg())
local is_calm = now < calm_until(looked, length) -- guard: calm

-- A due that no program could have written would never be moved on: it is put right first.
local known, ticks, next_due, is_known = {}, {}, LAST_MOMENT, {}
for number = position + 1, #ARGV do
  known[#known + 1] = ARGV[number]
  is_known[ARGV[number]] = true
end
for number, at in ipairs(looked_up('ZMSCORE', periodic, known)) do
  if at then
    local written = tonumber(at)
    at = math.max(0, math.min(math.floor(written), LAST_MOMENT))
    if at ~= written then
      call('ZADD', periodic, string.format('%.0f', at), known[number])
    end
    if at <= now then -- guard: not before the tick
      ticks[#ticks + 1] = known[number]
      ticks[#ticks + 1] = at
    end
    next_due = math.min(next_due, at)
  end
end
local WEEK = 604800000
local forgotten = {}
for _, task in ipairs(call('ZRANGEBYSCORE', periodic, '-inf', now - WEEK, 'LIMIT', 0, CHUNK)) do
  if not is_known[task] then -- guard: known for long
    forgotten[#forgotten + 1] = task
  end
end
chunked('ZREM', periodic, forgotten)
for _, task in ipairs(forgotten) do
  call('HDEL', control, ' @' .. task)
end


local due = call('ZRANGEBYSCORE', future, '-inf', now, 'LIMIT', 0, CHUNK) -- guard: not before it is due
chunked('RPUSH', ready, due)
chunked('ZREM', future, due)

local lost, tasks_with_slots = {}, nil
local expired = is_calm and {} or
  call('ZRANGEBYSCORE', leases, '-inf', now - grace, 'LIMIT', 0, most + 1) -- guard: grace
local is_more_expired = #expired > most
expired[most + 1] = nil
if #expired > 0 then
  call('ZCARD', slots)
  call('ZCARD', lanes)
  call('SCARD', open)
  call('ZCARD', dead)
  call('HLEN', deadjobs)
  call('LLEN', wake)
end

-- Nothing tells the task of a job that cannot be read, but it is one that has a limit.
local function free_slot_of_any_task(lease)
  if not has_limits then
    return
  end
  tasks_with_slots = tasks_with_slots or call('HKEYS', control)
  local holders = {}
  for number, task in ipairs(tasks_with_slots) do
    holders[number] = task .. '\n' .. lease
  end
  local before = call('ZCARD', slots)
  chunked('ZREM', slots, holders)
  if call('ZCARD', slots) < before then
    for _, task in ipairs(tasks_with_slots) do
      open_up(task)
    end
  end
end

for _, old in ipairs(expired) do
  local id = id_of(old)
  local envelope = id and call('HGET', jobs, id)
  local task, crashes, _
  if envelope and string.find(id, ID) then -- guard: id of a lost job
    task, _, _, _, crashes = header(envelope)
  end
  call('ZREM', leases, old)
  if not task then -- guard: unreadable lost job
    free_slot_of_any_task(old)
    if id then -- guard: a lease without a job
      quarantine(id, envelope or '')
    end
  else
    local lease = id .. ':' .. session .. '.t' .. tick
    if not string.find(old, '%.t%d+$') then -- guard: crash of a worker
      envelope = rewritten(envelope, {crashes = crashes + 1})
      call('HSET', jobs, id, envelope)
    end
    call('ZADD', leases, now + length, lease)
    local is_limited = has_limits and limit_in(call('HGET', control, task)) > 0
    if call('ZREM', slots, task .. '\n' .. old) == 1 or is_limited then -- guard: slot of a lost job
      call('ZADD', slots, 0, task .. '\n' .. lease)
    end
    lost[#lost + 1] = lease
    lost[#lost + 1] = envelope
  end
end

next_due = math.min(next_due, tonumber(call('ZRANGE', future, 0, 0, 'WITHSCORES')[2] or LAST_MOMENT))
if is_more_expired then -- guard: more lost jobs
  next_due = now
end
-- What else there is to run has woken somebody already, who is on the way.
if (#due > 0 or #expired > 0) and something_to_run() then
  notify()
end
return {now, next_due < LAST_MOMENT and math.max(0, next_due - now) or -1, lost, ticks}

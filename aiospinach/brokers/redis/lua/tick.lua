#!lua flags=allow-oom
-- Queues due jobs, ends pauses, and leases lost jobs to the caller, which judges them. Nothing is lost during a rescue
-- pause.
-- KEYS   ready jobs leases slots future dead deadjobs control lanes open periodic wake looked pauses progress
-- needs  chunks task_of headers gates lanes resuming parking prune_dead quarantine notify rescue_pause
-- ARGV   session, number of this tick, lease (ms), grace (ms), how many lost jobs at most, then the periodic tasks that
--        the caller knows
-- answer {now, ms until the next tick has something to do (0: at once) or -1, lease and envelope of each lost job, task
--        and due of each periodic task that is due}
-- repeat reads everything anew. If an answer did not arrive, the jobs that it leased are lost again later
local session, tick, length, grace, most_lost = arg(), arg(), tonumber(arg()), tonumber(arg()), tonumber(arg())
local is_paused = now < pause_until(looked, length) -- guard: rescue pause

-- No program can have written a due that is no whole millisecond, or is out of range, and no program would move such a
-- due on. So it is corrected first.
local known_tasks, due_tasks, next_due, is_known = {}, {}, LAST_MOMENT, {}
for number = position + 1, #ARGV do
  known_tasks[#known_tasks + 1] = ARGV[number]
  is_known[ARGV[number]] = true
end
for number, at in ipairs(read_in_chunks('ZMSCORE', periodic, known_tasks)) do
  if at then
    local stored_at = tonumber(at)
    at = math.max(0, math.min(math.floor(stored_at), LAST_MOMENT))
    if at ~= stored_at then
      call('ZADD', periodic, string.format('%.0f', at), known_tasks[number])
    end
    if at <= now then -- guard: not before the tick
      due_tasks[#due_tasks + 1] = known_tasks[number]
      due_tasks[#due_tasks + 1] = at
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
call_in_chunks('ZREM', periodic, forgotten)
for _, task in ipairs(forgotten) do
  call('HDEL', control, ' @' .. task)
end

local due = call('ZRANGEBYSCORE', future, '-inf', now, 'LIMIT', 0, CHUNK) -- guard: not before it is due
call_in_chunks('RPUSH', ready, due)
call_in_chunks('ZREM', future, due)

local lost, tasks_with_slots = {}, nil
local expired = is_paused and {} or
  call('ZRANGEBYSCORE', leases, '-inf', now - grace, 'LIMIT', 0, most_lost + 1) -- guard: grace
local is_more_expired = #expired > most_lost
expired[most_lost + 1] = nil
if #expired > 0 then
  call('ZCARD', slots)
  call('ZCARD', lanes)
  call('SCARD', open)
  call('ZCARD', dead)
  call('HLEN', deadjobs)
  call('LLEN', wake)
  call('HDEL', progress, unpack(expired))
end

-- The task of a job that cannot be read is unknown, so the lease may hold a slot of any task.
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
  call_in_chunks('ZREM', slots, holders)
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

local has_ended_pause, next_end = end_pauses()
next_due = math.min(next_due, next_end, tonumber(call('ZRANGE', future, 0, 0, 'WITHSCORES')[2] or LAST_MOMENT))
if is_more_expired then -- guard: more lost jobs
  next_due = now
end
-- For other jobs in ready, the call that queued them has woken a worker already.
if (#due > 0 or #expired > 0 or has_ended_pause) and something_to_run() then
  notify()
end
return {now, next_due < LAST_MOMENT and math.max(0, next_due - now) or -1, lost, due_tasks}

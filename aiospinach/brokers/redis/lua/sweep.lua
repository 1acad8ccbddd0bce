#!lua flags=allow-oom
-- Looks at queues: whether there is something to run, and when the next tick has something to do.
-- needs  rescue_pause
--        KEYS are for each queue: ready leases future periodic control looked open lanes workers jobs cancels slots pauses
--        reports progress, and minutes of two hours
-- ARGV   lease (ms), grace (ms), session, 1 if the worker ends, then for each queue: the task after which the list of
--        tasks with parked jobs goes on, 1 if the script looks for signs of orphans, the report of the worker, count of
--        rows, for each row the place of its hour among the two, its field and its contents; count of periodic tasks,
--        these tasks
-- answer {now, for each queue: 1 if there may be something to run, else 0; ms until something is due or lost, or -1;
--        its epoch, or ''; some tasks with parked jobs, and for each since when the first job is parked, how many are
--        parked, and the entry of the task in control, or ''; 1 if there may be orphans, or jobs behind closed gates}
-- repeat reads again
local length, grace, session, is_last = tonumber(arg()), tonumber(arg()), arg(), arg() == '1'
local TASKS_AT_ONCE, FORGOTTEN_AT_ONCE = 100, 1000
local ROWS_FOR = 262800000 -- 73 hours
local NAMES = {'ready', 'leases', 'future', 'periodic', 'control', 'looked', 'open', 'lanes', 'workers', 'jobs',
  'cancels', 'slots', 'pauses', 'reports', 'progress', 'first hour', 'second hour'}
local answer, place = {now}, 0

-- Returns the keys of the next queue, by their names.
local function next_keys()
  local keys = {}
  for _, name in ipairs(NAMES) do
    place = place + 1
    keys[name] = KEYS[place]
  end
  return keys
end

local function first_score(zset)
  return tonumber(call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2] or 'inf')
end

-- Stores the report of the worker. A worker that does not look for three leases is forgotten.
local function note_worker(keys, report)
  call('ZADD', keys.workers, now, session)
  call('HSET', keys.reports, session, report)
  local forgotten = call('ZRANGEBYSCORE', keys.workers, '-inf', now - 3 * length, 'LIMIT', 0, FORGOTTEN_AT_ONCE)
  if is_last then
    forgotten[#forgotten + 1] = session
  end
  if #forgotten > 0 then
    call('ZREM', keys.workers, unpack(forgotten))
    call('HDEL', keys.reports, unpack(forgotten))
  end
  call('PEXPIRE', keys.workers, 3 * length)
  call('PEXPIRE', keys.reports, 3 * length)
end

-- A row has the numbers of the worker and the whole minute: it replaces an earlier one.
local function store_rows(keys, rows)
  for _, row in ipairs(rows) do
    local hour = row.place == '1' and keys['first hour'] or keys['second hour']
    call('HSET', hour, row.field, row.contents)
    call('PEXPIRE', hour, ROWS_FOR)
  end
end

-- Returns whether the queue is paused, and when the next pause ends.
local function pauses_of(keys)
  local next_end, entries = math.huge, call('HVALS', keys.pauses)
  for _, words in ipairs(entries) do
    local ends = tonumber(string.match(words, '^(%d+) ') or 0)
    next_end = ends > 0 and math.min(next_end, ends) or next_end
  end
  if #entries == 0 then -- somebody deleted them, and a tick notes that
    next_end = now
  end
  return call('HEXISTS', keys.pauses, '*') == 1, next_end
end

local function parked_tasks(keys, after)
  local found, from = {}, '(?' .. after .. '\n\255'
  for _ = 1, TASKS_AT_ONCE do
    local entry = call('ZRANGEBYLEX', keys.lanes, from, '(@', 'LIMIT', 0, 1)[1]
    if not entry then
      break
    end
    local task, since = string.match(entry, '^%?(%S+)\n(%d+)\n')
    if task then
      found[#found + 1] = task
      found[#found + 1] = since
      found[#found + 1] = call('ZLEXCOUNT', keys.lanes, '[?' .. task .. '\n', '(?' .. task .. '\n\255')
      found[#found + 1] = call('HGET', keys.control, task) or ''
    end
    from = '(' .. (task and '?' .. task .. '\n\255' or entry)
  end
  return found
end

local function may_have_orphans(keys)
  local running, in_lanes = call('ZCARD', keys.leases), call('ZCARD', keys.lanes)
  local found = call('LLEN', keys.ready) + running + in_lanes + call('ZCARD', keys.future)
  -- Each job is in one of these. A cancelled job has left jobs; its id may lie there still, and is in cancels.
  local are_missing = call('HLEN', keys.jobs) + call('HLEN', keys.cancels) > found
  local are_slots_left = call('ZCARD', keys.slots) > running or call('HLEN', keys.progress) > running
  -- Jobs that are not parked are held back, and no running job opens their gate when it ends.
  local are_stuck = running == 0 and call('SCARD', keys.open) == 0
    and in_lanes > call('ZLEXCOUNT', keys.lanes, '[?', '(@')
    and call('EXISTS', keys.pauses) == 0 -- the gate of a paused task opens when the pause ends
  return are_missing or are_slots_left or are_stuck
end

-- Returns the answer for one queue; raises if one of its keys has a wrong type.
local function look(keys, after, report, rows, tasks)
  note_worker(keys, report)
  store_rows(keys, rows)
  local has_lanes, has_pauses = unpack(call('HMGET', keys.control, ' lanes', ' pauses'))
  local is_something = call('LLEN', keys.ready) > 0 or call('SCARD', keys.open) > 0
  local due, next_end = first_score(keys.future), first_score(keys.leases) + grace
  due = math.min(due, math.max(next_end, pause_until(keys.looked, length)))
  for _, task in ipairs(tasks) do
    due = math.min(due, tonumber(call('ZSCORE', keys.periodic, task) or 'inf'))
  end
  if has_pauses then
    local is_paused, next_end = pauses_of(keys)
    is_something, due = is_something and not is_paused, math.min(due, next_end)
  end
  local parked = has_lanes and parked_tasks(keys, after) or {}
  return is_something and 1 or 0, due < math.huge and math.max(0, due - now) or -1, parked
end

while place < #KEYS do
  local keys, after, is_thorough, report, rows, tasks = next_keys(), arg(), arg() == '1', arg(), {}, {}
  for number = 1, tonumber(arg()) do
    rows[number] = {place = arg(), field = arg(), contents = arg()}
  end
  for number = 1, tonumber(arg()) do
    tasks[number] = arg()
  end
  -- A malformed queue must not hide the others. The other calls of that queue raise an error that names the fault.
  local could_look, is_something, due, parked = pcall(look, keys, after, report, rows, tasks)
  answer[#answer + 1] = could_look and is_something or 1
  answer[#answer + 1] = could_look and due or 0
  local moment = redis.pcall('HGET', keys.control, ' epoch')
  answer[#answer + 1] = type(moment) == 'string' and moment or ''
  answer[#answer + 1] = could_look and parked or {}
  local could_check, has_orphans = is_thorough, false
  if is_thorough then
    could_check, has_orphans = pcall(may_have_orphans, keys)
  end
  answer[#answer + 1] = could_check and has_orphans and 1 or 0
end
return answer

#!lua flags=no-writes
-- Gathers what the queue knows of one job, and of what the job waits for.
-- KEYS   ready jobs leases slots future cancels dead deadjobs control lanes open workers reports pauses progress
-- needs  chunks task_of headers gates parking prune_dead dead_records
-- ARGV   id, lease (ms), 1 if only the place is wanted, and the lease of the job, if the caller has searched the leases;
--        '-' if it has found none; '' if it has not searched
-- answer {now, place, envelope or record, lease, end of the lease, first line of the report of its worker, its progress, 1
--        if the job was cancelled while it ran, how many jobs are ahead in its line or lane (-1: more than 10,000), limit of the
--        task, how many of its jobs run, how many workers there are, 1 if one of them knows the task, entry of the task in
--        control, '*' or the task and the pause of the queue or the task, or '' twice, then for each session that runs
--        jobs of the task: how many, and the first line of its report}
--        The place is 'ready', 'lanes', 'future', 'parked', 'leases' or 'dead'; or 'none' if there is no such job; or
--        'asked' if too many jobs run for this script to search them: then the caller searches the leases, and asks again.
--        The envelope is '' if it cannot be read
-- repeat reads again
local LEASES_AT_MOST, PAGE, LOOKED_AT_MOST, SLOTS_AT_MOST, REPORTS_AT_MOST = 1000, 1000, 10000, 1000, 200
local id, length, is_brief, known_lease = arg(), tonumber(arg()), arg() == '1', arg()
local envelope = call('HGET', jobs, id)

-- A record of a dead job is time of death, length of the envelope, newline, envelope, detail.
local function dead_job()
  local died_at, record = call('ZSCORE', dead, id), call('HGET', deadjobs, id)
  local found, is_readable = envelope_of_dead(id, record or '')
  if not found or not died_at or tonumber(died_at) < now - DEAD_FOR then
    return {now, 'none', ''}
  end
  return {now, 'dead', record, is_readable and '1' or '0'}
end
if not envelope then
  return dead_job()
end

local task, _, _, _, _, parked = header(envelope)

local function find_lease()
  if known_lease ~= '' then
    return known_lease ~= '-' and call('ZSCORE', leases, known_lease) and known_lease
  end
  local cursor, pattern = '0', string.gsub(id, '[%[%]%*%?\\]', '\\%0') .. ':*'
  repeat
    local page = call('ZSCAN', leases, cursor, 'MATCH', pattern, 'COUNT', LEASES_AT_MOST)
    cursor = page[1]
    for number = 1, #page[2], 2 do
      local lease = page[2][number]
      if id_of(lease) == id then -- guard: whole id of a lease
        return lease
      end
    end
  until cursor == '0'
end

local function first_line_of(session)
  return string.match(call('HGET', reports, session) or '', '^[^\n]*')
end

local function session_of(lease)
  return string.match(lease, ':([^:.]*)%.[^:]*$') or ''
end

-- Returns how many of the ids are of live jobs: cancelled jobs leave their ids in line.
local function count_live(ids)
  local live = #ids
  for _, mark in ipairs(has_cancels and read_in_chunks('HMGET', cancels, ids) or {}) do
    if mark == 'gone' then -- guard: cancelled ahead
      live = live - 1
    end
  end
  return live
end

-- Returns how many jobs are before this one in the lane of its task; nil if it is not there, -1 if there are too many.
local function ahead_in_lane()
  local from, ids = '[' .. task .. '\n', {}
  for _ = 1, LOOKED_AT_MOST / PAGE do
    local entries = call('ZRANGEBYLEX', lanes, from, '(' .. task .. '\n\255', 'LIMIT', 0, PAGE)
    for _, entry in ipairs(entries) do
      local other = string.match(entry, '\n%d+\n(.*)$') or ''
      if other == id then
        return count_live(ids)
      end
      ids[#ids + 1] = other
    end
    if #entries < PAGE then
      return nil
    end
    from = '(' .. entries[PAGE]
  end
  return -1
end

-- Returns the place of a job that is in no lease, and how many jobs are ahead of it.
local function place_in_line()
  if call('ZSCORE', future, id) then
    return 'future', -1
  end
  local version = foreign_version(envelope)
  if version or (task and call('ZSCORE', lanes, parked_entry('?' .. task, parked, id))) then
    return 'parked', -1
  end
  if is_brief then
    return 'ready', -1
  end
  local index = call('LPOS', ready, id, 'MAXLEN', LOOKED_AT_MOST)
  if index then
    return 'ready', index > 0 and count_live(call('LRANGE', ready, 0, index - 1)) or 0
  end
  local ahead = task and has_lanes and ahead_in_lane()
  return ahead and 'lanes' or 'ready', ahead or -1
end

local place, ahead, lease, expiry, report, step = nil, -1, '', '', '', ''
if known_lease == '' and call('ZCARD', leases) > LEASES_AT_MOST and not call('ZSCORE', future, id) then
  return {now, 'asked', ''}
end
local found = find_lease()
if found then
  place, lease, expiry, report = 'leases', found, call('ZSCORE', leases, found), first_line_of(session_of(found))
  step = call('HGET', progress, found) or ''
else
  place, ahead = place_in_line()
end
local answer = {now, place, task and envelope or '', lease, expiry, report, step}
if is_brief or not task then
  return answer
end

local entry = call('HGET', control, task) or ''
local limit = has_limits and limit_in(entry) or 0
local first_slot, last_slot = '[' .. task .. '\n', '(' .. task .. '\n\255'
local used = limit > 0 and call('ZLEXCOUNT', slots, first_slot, last_slot) or 0
local holders, sessions = {}, {}
if limit > 0 then
  for _, slot in ipairs(call('ZRANGEBYLEX', slots, first_slot, last_slot, 'LIMIT', 0, SLOTS_AT_MOST)) do
    local session = session_of(slot)
    if not holders[session] then
      sessions[#sessions + 1] = session
    end
    holders[session] = (holders[session] or 0) + 1
  end
end

-- Returns whether a worker knows the task. A report has a second line with the names of tasks, in spaces.
local function is_known()
  local live = call('ZREVRANGEBYSCORE', workers, '+inf', now - 3 * length, 'LIMIT', 0, REPORTS_AT_MOST)
  for _, session in ipairs(live) do
    local report = call('HGET', reports, session) or ''
    local first = string.find(report, '\n', 1, true)
    if not first or string.find(report, ' ' .. task .. ' ', first, true) or string.sub(report, -3) == ' * ' then
      return true
    end
  end
  return #live == REPORTS_AT_MOST
end

local paused = is_queue_paused and '*' or has_pauses and task
local why_paused = paused and call('HGET', pauses, paused)
local is_marked = place == 'leases' and call('HEXISTS', cancels, id) or 0
for _, value in ipairs({is_marked, ahead, limit, used, call('ZCOUNT', workers, now - 3 * length, '+inf'),
  is_known() and 1 or 0, entry, why_paused and paused or '', why_paused or ''}) do
  answer[#answer + 1] = value
end
for _, session in ipairs(sessions) do
  answer[#answer + 1] = holders[session]
  answer[#answer + 1] = first_line_of(session)
end
return answer

#!lua flags=allow-oom
-- Cancels the waiting and queued jobs of the queue, or of one task, some a call.
-- KEYS   ready jobs future cancels control lanes dedup:0 dedup:1 events
--        and result:<id> of each cancelled job that keeps its result: a caller cannot know these ids
-- needs  chunks task_of headers ends events forgetting
-- ARGV   task (empty: all); 1 if the caller wants the jobs; how many rows of events the stream keeps, 0: there is
--        none; then where this call goes on: 'future',
--        'ready', 'lanes' or 'parked', the position there (empty: its beginning), and how many entries are left to look at
--        (-1: all)
-- answer {now, where the next call goes on ('': this was the last call), its position, entries left, how many jobs were
--        cancelled, id and envelope of each, if wanted}
-- repeat goes on with the jobs that are left
local task, wants_jobs = arg(), arg() == '1'
rows_of_events = arg()
local place, cursor, left = arg(), arg(), tonumber(arg())
local AT_ONCE = 500
local BYTES_AT_MOST = 262144 -- of envelopes: a call stays short if they are long
local WINDOW = 1000
local cancelled_ids, cancelled_envelopes, cancelled_jobs = {}, {}, {}
call('LLEN', ready)
call('ZCARD', future)
call('ZCARD', lanes)
call('SCARD', dedup0)
call('SCARD', dedup1)
local has_marks = call('HLEN', cancels) > 0

-- Notes the jobs to cancel. Returns the entries that leave, those of these jobs and those without a job; the others; and
-- how many entries it looked at. A job that cannot be read stays, until an exchange meets it.
local function leaving(entries, ids)
  local found, others, looks, bytes = {}, {}, 0, 0
  for number, id in ipairs(ids) do
    if bytes > BYTES_AT_MOST then -- guard: bytes of a call
      break
    end
    local envelope = call('HGET', jobs, id)
    local own = envelope and task_of(envelope)
    looks, bytes = number, bytes + #(envelope or '')
    if own and (task == '' or own == task) then -- guard: job of another task
      cancelled_ids[#cancelled_ids + 1] = id
      cancelled_envelopes[#cancelled_ids] = envelope
      if wants_jobs then
        cancelled_jobs[#cancelled_jobs + 1] = id
        cancelled_jobs[#cancelled_jobs + 1] = envelope
      end
      found[#found + 1] = entries[number]
    elseif task == '' and not envelope then
      found[#found + 1] = entries[number]
    else
      others[#others + 1] = entries[number]
    end
  end
  return found, others, looks
end

local function unmark(ids)
  if has_marks then
    call_in_chunks('HDEL', cancels, ids)
  end
end

-- For each place, a function that cancels some of its jobs. Returns the next position, or nil at the end of the place; and
-- how many entries it looked at, or 0 if jobs that come meanwhile are not met.
local places = {}

-- The position is the last job that stayed, with its due. If it has left meanwhile, the walk begins again.
function places.future()
  local due, last = string.match(cursor, '^(%S+) (.*)$')
  local first = 0
  if last and call('ZSCORE', future, last) == due then -- guard: last job that stayed
    first = call('ZRANK', future, last) + 1
  end
  local ids = call('ZRANGE', future, first, first + AT_ONCE - 1)
  local gone, others, looks = leaving(ids, ids)
  last = others[#others]
  local position = last and call('ZSCORE', future, last) .. ' ' .. last or cursor
  call_in_chunks('ZREM', future, gone)
  return (looks < #ids or #ids == AT_ONCE) and position or nil, 0
end

-- Returns how many ids of the line are at its tail, up to the last one that was looked at. Jobs that came meanwhile lie
-- behind those that were looked at. If there are very many, or if the id has left, the length of the line tells.
local function looked_at_tail()
  local count, length, last = string.match(cursor, '^(%d+) (%d+) (.*)$')
  if not count then
    return 0
  end
  local ids = call('LRANGE', ready, -count - WINDOW, -count)
  for number = #ids, 1, -1 do
    if ids[number] == last then -- guard: jobs that came meanwhile
      return count + #ids - number
    end
  end
  return count + math.max(0, call('LLEN', ready) - length)
end

-- Without a task, ids leave the head of the line. Else the ids stay in line with a mark, as that of one cancelled job
-- does: the script reads from the tail, since jobs leave at the head meanwhile.
function places.ready()
  if task == '' then
    local ids = call('LRANGE', ready, 0, math.min(AT_ONCE, left) - 1)
    local gone, others, looks = leaving(ids, ids)
    call('LTRIM', ready, looks, -1)
    call_in_chunks('RPUSH', ready, others)
    unmark(gone)
    return #ids > 0 and '' or nil, looks
  end
  local offset = looked_at_tail()
  local ids, last_first = call('LRANGE', ready, -offset - AT_ONCE, -offset - 1), {}
  for number = #ids, 1, -1 do
    last_first[#last_first + 1] = ids[number]
  end
  local gone, _, looks = leaving(last_first, last_first)
  local marks = {}
  for _, id in ipairs(gone) do
    marks[#marks + 1] = id
    marks[#marks + 1] = 'gone'
  end
  if #marks > 0 then
    call_in_chunks('HSET', cancels, marks)
    call('HSET', control, ' cancels', 1)
  end
  if looks == #ids and #ids < AT_ONCE then
    return nil, 0
  end
  return offset + looks .. ' ' .. call('LLEN', ready) .. ' ' .. last_first[looks], 0
end

local function ids_of(entries)
  local ids = {}
  for number, entry in ipairs(entries) do
    ids[number] = string.match(entry, '\n%d+\n(.*)$') or ''
  end
  return ids
end

local function cancel_in_lanes(first, last)
  local entries = call('ZRANGEBYLEX', lanes, cursor == '' and first or '(' .. cursor, last, 'LIMIT', 0, AT_ONCE)
  local gone, _, looks = leaving(entries, ids_of(entries))
  call_in_chunks('ZREM', lanes, gone)
  unmark(ids_of(gone))
  return (looks < #entries or #entries == AT_ONCE) and entries[looks] or nil, looks
end

function places.lanes()
  if task == '' then
    return cancel_in_lanes('-', '+')
  end
  return cancel_in_lanes('[' .. task .. '\n', '(' .. task .. '\n\255')
end

function places.parked()
  return cancel_in_lanes('[?' .. task .. '\n', '(?' .. task .. '\n\255')
end

local NEXT = {future = 'ready', ready = 'lanes', lanes = task ~= '' and 'parked' or '', parked = ''}

if left < 0 then -- jobs that come meanwhile do not keep the calls going
  left = place == 'ready' and call('LLEN', ready) or call('ZCARD', lanes)
end
local next_cursor, looked_at = places[place]()
left = left - looked_at
if not next_cursor or (place ~= 'future' and left <= 0) then -- guard: end of a place
  place, next_cursor, left = NEXT[place], '', -1
end
forget(cancelled_ids, cancelled_envelopes)
if has_marks and call('HLEN', cancels) == 0 then
  call('HDEL', control, ' cancels')
end
return {now, place, next_cursor, left, #cancelled_ids, cancelled_jobs}

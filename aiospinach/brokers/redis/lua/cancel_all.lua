#!lua flags=allow-oom
-- Cancels the waiting and queued jobs of the queue, or of one task, some a call.
-- KEYS   ready jobs future cancels dead deadjobs control lanes dedup:0 dedup:1
--        and result:<id> of each cancelled job that keeps its result: a caller cannot know these ids
-- needs  chunks headers parking prune_dead quarantine ends forgetting
-- ARGV   task (empty: all); 1 if the caller wants the jobs; then where this call goes on: 'future', 'ready', 'lanes' or
--        'parked', the position there (empty: its beginning), and how many entries are left to look at (-1: all)
-- answer {now, where the next call goes on ('': this was the last call), its position, entries left, how many jobs were
--        cancelled, id and envelope of each, if wanted}
-- repeat goes on with the jobs that are left
local task, wants_jobs, place, cursor, left = arg(), arg() == '1', arg(), arg(), tonumber(arg())
local AT_ONCE = 500
local cancelled_ids, cancelled_envelopes, cancelled_jobs = {}, {}, {}
call('LLEN', ready)
call('ZCARD', future)
call('ZCARD', lanes)
call('ZCARD', dead)
call('HLEN', deadjobs)
call('SCARD', dedup0)
call('SCARD', dedup1)
local has_marks = call('HLEN', cancels) > 0

-- Notes the jobs to cancel. Returns the entries that leave: those of these jobs, and if all jobs are cancelled those
-- without a job. A job in a line that cannot be read is quarantined.
local function leaving(entries, ids, is_line)
  local found = {}
  for number, envelope in ipairs(read_in_chunks('HMGET', jobs, ids)) do
    local id, own = ids[number], envelope and task_of(envelope)
    if own and (task == '' or own == task) then -- guard: job of another task
      cancelled_ids[#cancelled_ids + 1] = id
      cancelled_envelopes[#cancelled_ids] = envelope
      if wants_jobs then
        cancelled_jobs[#cancelled_jobs + 1] = id
        cancelled_jobs[#cancelled_jobs + 1] = envelope
      end
      found[#found + 1] = entries[number]
    elseif task == '' and not own and (is_line or not envelope) then
      if envelope then
        quarantine(id, envelope)
      end
      found[#found + 1] = entries[number]
    end
  end
  return found
end

local function unmark(ids)
  if has_marks then
    call_in_chunks('HDEL', cancels, ids)
  end
end

-- For each place, a function that cancels some of its jobs. Returns the next position, and how many entries it looked at;
-- nil at the end of the place.
local places = {}

function places.future()
  local page = call('ZSCAN', future, cursor == '' and '0' or cursor, 'COUNT', AT_ONCE)
  local ids = {}
  for number = 1, #page[2], 2 do
    ids[#ids + 1] = page[2][number]
  end
  call_in_chunks('ZREM', future, leaving(ids, ids))
  return page[1] ~= '0' and page[1] or nil, 0
end

-- Without a task, ids leave the head of the line. Else the ids stay in line with a mark, as that of one cancelled job
-- does: the script reads from the tail, since jobs leave at the head meanwhile.
function places.ready()
  if task == '' then
    local ids = call('LRANGE', ready, 0, math.min(AT_ONCE, left) - 1)
    leaving(ids, ids, true)
    call('LTRIM', ready, #ids, -1)
    unmark(ids)
    return #ids > 0 and '' or nil, #ids
  end
  local offset = tonumber(cursor) or 0
  local ids = call('LRANGE', ready, -offset - AT_ONCE, -offset - 1)
  for _, id in ipairs(leaving(ids, ids)) do
    call('HSET', cancels, id, 'gone')
    call('HSET', control, ' cancels', 1)
  end
  return #ids == AT_ONCE and tostring(offset + AT_ONCE) or nil, #ids
end

local function cancel_in_lanes(first, last)
  local entries = call('ZRANGEBYLEX', lanes, cursor == '' and first or '(' .. cursor, last, 'LIMIT', 0, AT_ONCE)
  local own, ids = {}, {}
  for _, entry in ipairs(entries) do
    if string.sub(entry, 1, 2) ~= '?/' then -- guard: jobs of another release
      own[#own + 1] = entry
      ids[#ids + 1] = string.match(entry, '\n%d+\n(.*)$') or ''
    end
  end
  call_in_chunks('ZREM', lanes, leaving(own, ids, true))
  unmark(ids)
  return entries[AT_ONCE], #entries
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

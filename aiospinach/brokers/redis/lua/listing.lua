#!lua flags=no-writes
-- Lists the jobs in one place of a queue, from a position on. A page ends early if its jobs are large.
-- KEYS   ready jobs leases future dead deadjobs lanes reports progress
-- needs  chunks task_of headers prune_dead dead_records
-- ARGV   'ready', 'lanes', 'future', 'parked' or 'dead'; position ('': the beginning); how many jobs to return and to look
--        at, at most; task of the jobs ('': any).
--        Or 'leases', then leases
-- answer {now, position of the next page or nothing, how many jobs were looked at, for each job: id, envelope ('' if it
--        cannot be read), '', the position behind it; for a dead job: id, record, 1 if it can be read, else 0, position}.
--        to 'leases': {now, nothing, how many leases there are, lease, envelope, end of the lease, first line of the
--        report of its worker, and progress, for each lease that lives}
-- repeat reads again
local BYTES_AT_MOST = 262144
local WINDOWS, SEARCHED_AT_MOST = {500, 10000}, 100000
local place, position = arg(), arg()

local function is_before(one, other) -- Lua compares by the locale, and Redis by bytes
  for number = 1, math.min(#one, #other) do
    local first, second = string.byte(one, number), string.byte(other, number)
    if first ~= second then
      return first < second
    end
  end
  return #one < #other
end

-- Returns the rank behind a member of a sorted set, also if the member has left.
local function rank_after(key, score, member)
  if call('ZSCORE', key, member) == score then
    return call('ZRANK', key, member) + 1
  end
  local low, high = call('ZCOUNT', key, '-inf', '(' .. score), call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_before(call('ZRANGE', key, middle, middle)[1], member) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- Returns the index behind an id of the line. The line may have lost its first ids, and some may have come back.
local function index_after(index, id)
  for _, window in ipairs(WINDOWS) do
    local first = math.max(0, index - window)
    for number, other in ipairs(call('LRANGE', ready, first, index + WINDOWS[1])) do
      if other == id then
        return first + number
      end
    end
  end
  local found = call('LPOS', ready, id, 'MAXLEN', SEARCHED_AT_MOST)
  if found then
    return found + 1
  end
  return index > SEARCHED_AT_MOST and index or 0 -- if it has left the line, those before it have left as well
end

-- Each function returns ids, and the position behind each, at most count.
local lists = {}

function lists.ready(count)
  local index, last = string.match(position, '^(%d+) (.*)$')
  local first = index and index_after(tonumber(index), last) or 0
  local ids, behind = call('LRANGE', ready, first, first + count - 1), {}
  for number, id in ipairs(ids) do
    behind[number] = (first + number) .. ' ' .. id
  end
  return ids, behind
end

local function in_lanes(count, ranges)
  local ids, behind = {}, {}
  for _, range in ipairs(ranges) do
    local from, to = range[1], range[2]
    for _, entry in ipairs(call('ZRANGEBYLEX', lanes, from, to, 'LIMIT', 0, count - #ids)) do
      ids[#ids + 1] = string.match(entry, '\n%d+\n(.*)$') or ''
      behind[#behind + 1] = entry
    end
  end
  return ids, behind
end

function lists.lanes(count)
  if position == '' then
    return in_lanes(count, {{'-', '(?'}, {'(@', '+'}})
  elseif is_before(position, '?') then
    return in_lanes(count, {{'(' .. position, '(?'}, {'(@', '+'}})
  end
  return in_lanes(count, {{'(' .. position, '+'}})
end

function lists.parked(count)
  return in_lanes(count, {{position == '' and '[?' or '(' .. position, '(@'}})
end

function lists.future(count)
  local score, last = string.match(position, '^(%S+) (.*)$')
  local rank = score and rank_after(future, score, last) or 0
  local found, ids, behind = call('ZRANGE', future, rank, rank + count - 1, 'WITHSCORES'), {}, {}
  for number = 1, #found, 2 do
    ids[#ids + 1] = found[number]
    behind[#behind + 1] = found[number + 1] .. ' ' .. found[number]
  end
  return ids, behind
end

function lists.dead(count)
  local from, ids, behind = position == '' and '+inf' or '(' .. position, {}, {}
  local found = call('ZREVRANGEBYSCORE', dead, from, now - DEAD_FOR, 'WITHSCORES', 'LIMIT', 0, count)
  for number = 1, #found, 2 do
    ids[#ids + 1] = found[number]
    behind[#behind + 1] = found[number + 1]
  end
  return ids, behind
end

-- Returns the envelope or record of an id, its detail, its task and its size; nil if there is none.
local function read(id)
  if place == 'dead' then
    local record = call('HGET', deadjobs, id)
    local envelope, is_readable = envelope_of_dead(id, record or '')
    if not envelope then -- guard: unreadable record in a list
      return nil
    end
    return record, is_readable and 1 or 0, is_readable and task_of(envelope), #record
  end
  local envelope = call('HGET', jobs, id)
  if not envelope then -- guard: cancelled job in a list
    return nil
  end
  local task = string.find(id, ID) and task_of(envelope)
  return task and envelope or '', '', task, #envelope
end

local function page()
  local limit, looks_at_most, wanted = tonumber(arg()), tonumber(arg()), arg()
  local answer, bytes, looks, after = {}, 0, 0, false
  local ids, behind = lists[place](looks_at_most + 1) -- one more shows whether there is another page
  for number, id in ipairs(ids) do
    if looks >= looks_at_most or #answer >= 4 * limit or bytes > BYTES_AT_MOST then
      return {now, after, looks, unpack(answer)}
    end
    looks, after = number, behind[number]
    local found, detail, task, size = read(id)
    bytes = bytes + (size or 0)
    if found and (wanted == '' or wanted == task) then
      answer[#answer + 1] = id
      answer[#answer + 1] = found
      answer[#answer + 1] = detail
      answer[#answer + 1] = after
    end
  end
  return {now, false, looks, unpack(answer)}
end

local function leased()
  local names, answer = {unpack(ARGV, 2)}, {now, false, #ARGV - 1}
  for number, score in ipairs(read_in_chunks('ZMSCORE', leases, names)) do
    local id = score and id_of(names[number])
    local envelope = id and call('HGET', jobs, id)
    if envelope then -- guard: ended lease in a list
      local report = call('HGET', reports, string.match(names[number], ':([^:.]*)%.[^:]*$') or '') or ''
      answer[#answer + 1] = names[number]
      answer[#answer + 1] = task_of(envelope) and envelope or ''
      answer[#answer + 1] = score
      answer[#answer + 1] = string.match(report, '^[^\n]*')
      answer[#answer + 1] = call('HGET', progress, names[number]) or ''
    end
  end
  return answer
end

return place == 'leases' and leased() or page()

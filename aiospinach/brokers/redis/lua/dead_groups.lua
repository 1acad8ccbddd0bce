#!lua flags=no-writes
-- Counts dead jobs by task and error, the latest first, a page a call.
-- KEYS   dead deadjobs
-- needs  chunks headers prune_dead dead_records
-- ARGV   offset
-- answer {now, offset of the next page ('': this was the last one), for each group: task, error as in the JSON of the
--        detail, how many jobs, when the latest died, its id}. Task and error are empty if they cannot be read
-- repeat reads again
local PAGE, PAGES_AT_MOST = 100, 10
local BYTES_AT_MOST = 1000000 -- of records: a call stays short if they are long
local BEGINNING_AT_MOST = 1000 -- bytes of a detail in which the error stands
local offset = tonumber(arg())
local groups, in_order, bytes = {}, {}, 0

-- Returns the error in the detail that begins at a place of a record, as JSON; '' if there is none.
local function error_of(record, first)
  local detail = first and string.sub(record, first, first + BEGINNING_AT_MOST) or ''
  local start = string.match(detail, '^{"reason":"[^"]*","error":()"')
  local last = start
  repeat
    last = last and string.find(detail, '"', last + 1, true)
    local escapes = last and #string.match(string.sub(detail, start, last - 1), '\\*$')
  until not last or escapes % 2 == 0
  return last and string.sub(detail, start, last) or ''
end

local function add(id, record)
  local envelope, is_readable, detail = envelope_of_dead(id, record)
  if not envelope then
    return
  end
  local task, error = is_readable and task_of(envelope) or '', error_of(record, detail)
  local name = task .. '\n' .. error
  local group = groups[name]
  if not group then
    group = {task, error, 0, string.match(record, '^%d+'), id}
    groups[name] = group
    in_order[#in_order + 1] = group
  end
  group[3] = group[3] + 1
end

local next_offset = offset
for _ = 1, PAGES_AT_MOST do
  local ids = call('ZREVRANGEBYSCORE', dead, '+inf', now - DEAD_FOR, 'LIMIT', offset, PAGE)
  for number, record in ipairs(read_in_chunks('HMGET', deadjobs, ids)) do
    record = record or ''
    bytes = bytes + #record
    add(ids[number], record)
  end
  offset = offset + #ids
  next_offset = #ids == PAGE and offset < DEAD_AT_MOST and offset or ''
  if next_offset == '' or bytes > BYTES_AT_MOST then
    break
  end
end
local answer = {now, next_offset}
for _, group in ipairs(in_order) do
  for _, value in ipairs(group) do
    answer[#answer + 1] = value
  end
end
return answer

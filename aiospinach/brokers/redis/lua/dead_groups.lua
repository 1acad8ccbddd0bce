#!lua flags=no-writes
-- Counts dead jobs by task and error, the latest first, a page a call.
-- KEYS   dead deadjobs
-- needs  chunks task_of headers prune_dead dead_records
-- ARGV   score of the job before which this page begins (empty: with the latest one), how many jobs it looks at
-- answer {now, where the next page begins ('': this was the last one), for each group: task, error as in the JSON of the
--        detail, how many jobs, when the latest died, its id}. Task and error are empty if they cannot be read
-- repeat reads again
local PAGE = 100
local BYTES_AT_MOST = 500000 -- of records: a call stays short if they are long
local ERROR_AT_MOST = 1000 -- bytes of the name of an error
local before, left = arg(), tonumber(arg())
local groups, kinds, in_order, bytes = {}, {}, {}, 0

-- Returns the error in a detail, as JSON; '' if there is none.
local function error_in(detail)
  local start = string.match(detail, '^{"reason":"[^"]*","error":()"')
  if not start then
    return ''
  end
  local text = string.gsub(string.sub(detail, start, start + ERROR_AT_MOST), '\\.', '..') -- without escaped quotes
  local last = string.find(text, '"', 2, true)
  return last and string.sub(detail, start, start + last - 1) or ''
end

-- Returns the group of a dead job.
local function group_of(id, record, detail)
  local envelope, is_readable = envelope_of_dead(id, record)
  local task = envelope and is_readable and task_of(envelope) or ''
  local error = error_in(string.sub(record, detail, detail + ERROR_AT_MOST))
  local name = task .. '\n' .. error
  if not groups[name] then
    groups[name] = {task, error, 0, string.match(record, '^%d+'), id}
    in_order[#in_order + 1] = groups[name]
  end
  return groups[name]
end

-- Jobs of one kind have the same static line, reason and error, and so the same group: it is looked up once for each kind.
local function add(id, record)
  local length, start = string.match(record, '^%d+ (%d+)\n()')
  local detail = start and start + length
  if not start or detail > #record + 1 then
    return
  end
  local first_line = string.find(record, '\n', start, true)
  local _, last = string.find(record, '^{"reason":"%a*","error":"[^"\\]*"', detail)
  local kind = last and first_line and string.sub(record, start, first_line) .. string.sub(record, detail, last)
  local group = kind and kinds[kind] or group_of(id, record, detail)
  if kind then
    kinds[kind] = group
  end
  group[3] = group[3] + 1
end

local is_last = false
while not is_last and left > 0 and bytes <= BYTES_AT_MOST do
  local latest, count = before == '' and '+inf' or '(' .. before, math.min(PAGE, left)
  local page = call('ZREVRANGEBYSCORE', dead, latest, now - DEAD_FOR, 'WITHSCORES', 'LIMIT', 0, count)
  for number = 1, #page, 2 do
    local record = call('HGET', deadjobs, page[number]) or ''
    add(page[number], record)
    before, left, bytes = page[number + 1], left - 1, bytes + #record
    if bytes > BYTES_AT_MOST then -- the next page goes on
      break
    end
  end
  is_last = #page < 2 * count and (#page == 0 or before == page[#page])
end
local answer = {now, is_last and '' or before}
for _, group in ipairs(in_order) do
  for _, value in ipairs(group) do
    answer[#answer + 1] = value
  end
end
return answer

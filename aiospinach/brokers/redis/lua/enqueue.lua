#!lua
-- Stores jobs: all or none.
-- KEYS   ready jobs future cancels dedup:0 dedup:1 wake answers events
-- needs  chunks notify rare
-- rare   scheduled_events
-- ARGV   field and number of the call; how many rows of events the stream keeps, 0: there is none; else the count of new
--        rows, and these, as they are without duplicates; then the jobs in rows. A row: named (1 if the user gave the ids),
--        due (ms), count, then id and envelope of each job
-- answer {now, 'stored', numbers of the jobs that are duplicates}, or {now, 'late'}
-- repeat stores nothing, and returns the same answer: a field of the session keeps the number and the answer of its last
--        call, for 15 minutes at least. A call with a lower number is late, and stores nothing either
local field, number = arg(), arg()
local LIFE, RENEWED_AFTER = 1200000, 300000

-- A field has the number, the moment when the life of the key was last prolonged, and the numbers of the duplicates.
local last, renewed, answer = string.match(call('HGET', answers, field) or '', '^(%d+) (%d+) (.*)$')

if last == number then -- guard: repeated call
  local duplicates = {}
  for place in string.gmatch(answer, '%d+') do
    duplicates[#duplicates + 1] = tonumber(place)
  end
  return {now, 'stored', duplicates}
end
if last and tonumber(last) > tonumber(number) then -- guard: copy that comes late
  return {now, 'late'}
end

local event_rows = arg()
local has_events = event_rows ~= '0'
local first_event = has_events and position + 2
local last_event = has_events and first_event + arg() - 1
position = last_event or position
local rows, ids, count = {}, {}, 0
while position < #ARGV do
  local row = {named = arg() == '1', due = arg(), first = position + 2}
  row.last = row.first + 2 * ARGV[position + 1] - 2
  rows[#rows + 1] = row
  for place = row.first, row.last, 2 do
    count = count + 1
    ids[count] = ARGV[place]
  end
  position = row.last + 1
end

local found, seen, duplicates, new_names = read_in_chunks('HMGET', jobs, ids), {}, {}, nil
local queued_ids, fields, future_entries = {}, {}, {}
local queued, stored, place_in_call = 0, 0, 0 -- the length of a table takes longer to find
-- The id of a job that was cancelled in its line stays in the line. A new job of that id takes over the place.
local marks = call('EXISTS', cancels) == 1 and read_in_chunks('HMGET', cancels, ids)
local unmarked_ids, moved_ids = marks and {}, marks and {}
for _, row in ipairs(rows) do
  local named = row.named
  local is_later = tonumber(row.due) > now -- guard: later
  for place = row.first, row.last, 2 do
    place_in_call = place_in_call + 1
    local id = ids[place_in_call]
    local is_known = found[place_in_call] or seen[id]
      or named and (call('SISMEMBER', dedup0, id) == 1 or call('SISMEMBER', dedup1, id) == 1)
    if is_known then -- guard: duplicate
      duplicates[#duplicates + 1] = place_in_call
    else
      seen[id] = true
      if named then
        new_names = new_names or {}
        new_names[#new_names + 1] = id
      end
      fields[2 * stored + 1], fields[2 * stored + 2] = id, ARGV[place + 1]
      stored = stored + 1
      if marks and marks[place_in_call] and marks[place_in_call] ~= 'ended' then -- guard: place of a cancelled job
        local list = is_later and moved_ids or unmarked_ids
        list[#list + 1] = id
      elseif is_later then
        future_entries[#future_entries + 1] = row.due
        future_entries[#future_entries + 1] = id
      else
        queued = queued + 1
        queued_ids[queued] = id
      end
    end
  end
end
local first = #future_entries > 0 and call('ZRANGE', future, 0, 0)[1]
if marks then
  call_in_chunks('HDEL', cancels, unmarked_ids)
  for _, id in ipairs(moved_ids) do
    call('HSET', cancels, id, 'later')
  end
end
call_in_chunks('RPUSH', ready, queued_ids)
call_in_chunks('HSET', jobs, fields)
call_in_chunks('ZADD', future, future_entries)
local has_earlier_due = #future_entries > 0 and call('ZRANGE', future, 0, 0)[1] ~= first
local is_aging = not renewed or now - renewed >= RENEWED_AFTER -- guard: life of a session
local since = is_aging and string.format('%.0f', now) or renewed
call('HSET', answers, field, number .. ' ' .. since .. ' ' .. table.concat(duplicates, ' '))
if is_aging then
  call('PEXPIRE', answers, LIFE)
end
if new_names then
  local window = math.floor(now / 600000)
  local newest = window % 2 == 0 and dedup0 or dedup1
  call_in_chunks('SADD', newest, new_names)
  call('PEXPIREAT', newest, (window + 2) * 600000)
end
if has_events and #duplicates == 0 then
  for place = first_event, last_event do
    redis.pcall('XADD', events, 'MAXLEN', '~', event_rows, '*', 'e', ARGV[place])
  end
elseif has_events then
  rare().tell_stored(rows, ids, duplicates, event_rows)
end
if queued > 0 or marks and #unmarked_ids + #moved_ids > 0 or has_earlier_due then
  notify(has_earlier_due)
end
return {now, 'stored', duplicates}

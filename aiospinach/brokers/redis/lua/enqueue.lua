#!lua
-- Stores jobs, all or none.
-- KEYS   ready jobs future cancels dedup:0 dedup:1 wake answers
-- needs  chunks notify
-- ARGV   field and number of the call, then the jobs, in rows of those that have this in common: named (1 if the
--        user gave the ids), due (ms), count; and then id and envelope of each
-- answer {now, 'stored', the numbers of those that are duplicates}, or {now, 'late'}
-- repeat a field of the session keeps the number and the answer of its last call, for 15 minutes at least: nothing
--        is added, and the answer is the same. A call with a lower number comes late, and adds nothing either
local field, number = arg(), arg()
local LIFE, RENEWED_AFTER = 1200000, 300000

-- A field: number, since when the key lives so long, and the answer: numbers of duplicates.
local last, renewed, answer = string.match(call('HGET', answers, field) or '', '^(%d+) (%d+) (.*)$')

local function remember(what)
  local is_aging = not renewed or now - renewed >= RENEWED_AFTER -- guard: life of a session
  local since = is_aging and string.format('%.0f', now) or renewed
  call('HSET', answers, field, number .. ' ' .. since .. ' ' .. what)
  if is_aging then
    call('PEXPIRE', answers, LIFE)
  end
end

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

local found, seen, duplicates, new_names = looked_up('HMGET', jobs, ids), {}, {}, {}
local queued, fields, later, stored, place_in_call = {}, {}, {}, 0, 0
-- An id that lies in line still, of a job that was cancelled there: the new one takes its place over.
local marks = call('EXISTS', cancels) == 1 and looked_up('HMGET', cancels, ids) or {}
local unmarked, moved = {}, {}
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
        new_names[#new_names + 1] = id
      end
      fields[2 * stored + 1], fields[2 * stored + 2] = id, ARGV[place + 1]
      stored = stored + 1
      if marks[place_in_call] and marks[place_in_call] ~= 'ended' then -- guard: place of a cancelled job
        local list = is_later and moved or unmarked
        list[#list + 1] = id
      elseif is_later then
        later[#later + 1] = row.due
        later[#later + 1] = id
      else
        queued[#queued + 1] = id
      end
    end
  end
end
local first = #later > 0 and call('ZRANGE', future, 0, 0)[1]
chunked('HDEL', cancels, unmarked)
for _, id in ipairs(moved) do
  call('HSET', cancels, id, 'later')
end
chunked('RPUSH', ready, queued)
chunked('HSET', jobs, fields)
chunked('ZADD', future, later)
local sooner = #later > 0 and call('ZRANGE', future, 0, 0)[1] ~= first
remember(table.concat(duplicates, ' '))
if #new_names > 0 then
  local window = math.floor(now / 600000)
  local newest = window % 2 == 0 and dedup0 or dedup1
  chunked('SADD', newest, new_names)
  call('PEXPIREAT', newest, (window + 2) * 600000)
end
if #queued + #unmarked + #moved > 0 or sooner then
  notify(sooner)
end
return {now, 'stored', duplicates}

#!lua
-- Stores jobs, all or none.
-- KEYS   ready jobs future cancels dedup:0 dedup:1 wake
-- needs  lists wake
-- ARGV   token, then the jobs, in rows of those that have this in common: named (1 if the user gave the ids),
--        due (ms), count; and then id and envelope of each
-- answer {now, 'stored', the numbers of those that are duplicates}
-- repeat the token is known, so nothing is added and the answer is the same
local token = arg()
local window = math.floor(now / 600000)
local newest = window % 2 == 0 and dedup0 or dedup1

local function known(member)
  return call('SISMEMBER', dedup0, member) == 1 or call('SISMEMBER', dedup1, member) == 1
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

local duplicates = {}
local is_repeat = known(token) -- guard: token
if is_repeat then
  for number = 1, count do
    if known(token .. '/' .. number) then
      duplicates[#duplicates + 1] = number
    end
  end
  return {now, 'stored', duplicates}
end

local found, seen, remembered = looked_up('HMGET', jobs, ids), {}, {token}
local queued, fields, later, stored, number = {}, {}, {}, 0, 0
-- An id that lies in line still, of a job that was cancelled there: the new one takes its place over.
local marks = call('EXISTS', cancels) == 1 and looked_up('HMGET', cancels, ids) or {}
local unmarked, moved = {}, {}
for _, row in ipairs(rows) do
  local named = row.named
  local is_later = tonumber(row.due) > now -- guard: later
  for place = row.first, row.last, 2 do
    number = number + 1
    local id = ids[number]
    if found[number] or seen[id] or named and known(id) then -- guard: duplicate
      duplicates[#duplicates + 1] = number
      remembered[#remembered + 1] = token .. '/' .. number
    else
      seen[id] = true
      if named then
        remembered[#remembered + 1] = id
      end
      fields[2 * stored + 1], fields[2 * stored + 2] = id, ARGV[place + 1]
      stored = stored + 1
      if marks[number] and marks[number] ~= 'ended' then -- guard: place of a cancelled job
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
chunked('SADD', newest, remembered)
call('PEXPIREAT', newest, (window + 2) * 600000)
if #queued + #unmarked > 0 or sooner then
  arm(sooner)
end
return {now, 'stored', duplicates}

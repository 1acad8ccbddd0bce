#!lua
-- Stores jobs, all or none.
-- ARGV   token, count, then for each job: named (1 if the user gave the id), id, due (ms), envelope
-- answer {now, 'stored', one character a job: 1 stored, 0 duplicate}, or {now, 'in use', id}
-- repeat the token is known, so nothing is added and the answer is the same
local token, count = arg(), tonumber(arg())
local window = math.floor(now / 600000)
local newest = window % 2 == 0 and dedup0 or dedup1

local function known(member)
  return call('SISMEMBER', dedup0, member) == 1 or call('SISMEMBER', dedup1, member) == 1
end

local is_repeat = known(token) -- guard: token
local flags, fields, queued, later, remembered = {}, {}, {}, {}, {token}
local ids, seen = {}, {}
for number = 1, count do
  ids[number] = ARGV[position + 4 * number - 2]
end
for number, found in ipairs(looked_up('HMGET', jobs, ids)) do
  local named, id, due, envelope = arg() == '1', arg(), arg(), arg()
  local is_new = true
  if is_repeat then
    is_new = not known(token .. '/' .. number)
  else
    if found == TOMBSTONE then -- guard: tombstone
      return {now, 'in use', id}
    end
    is_new = not found and not seen[id] and not (named and known(id)) -- guard: duplicate
    if not is_new then
      remembered[#remembered + 1] = token .. '/' .. number
    elseif named then
      remembered[#remembered + 1] = id
    end
  end
  flags[number] = is_new and '1' or '0'
  if is_new and not is_repeat then
    seen[id] = true
    fields[#fields + 1] = id
    fields[#fields + 1] = envelope
    if tonumber(due) <= now then -- guard: later
      queued[#queued + 1] = id
    else
      later[#later + 1] = due
      later[#later + 1] = id
    end
  end
end
local sooner = false
if not is_repeat then
  local first = #later > 0 and call('ZRANGE', future, 0, 0)[1]
  chunked('RPUSH', ready, queued)
  chunked('HSET', jobs, fields)
  chunked('ZADD', future, later)
  sooner = #later > 0 and call('ZRANGE', future, 0, 0)[1] ~= first
  chunked('SADD', newest, remembered)
  call('PEXPIREAT', newest, (window + 2) * 600000)
end
if #queued > 0 or sooner then
  arm(sooner)
end
return {now, 'stored', table.concat(flags)}

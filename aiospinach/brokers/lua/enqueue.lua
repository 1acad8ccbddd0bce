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
local asked, ids, seen = {}, {}, {}
for number = 1, count do
  asked[number] = {named = arg() == '1', id = arg(), due = tonumber(arg()), envelope = arg()}
  ids[number] = asked[number].id
end
for number, found in ipairs(looked_up('HMGET', jobs, ids)) do
  local job, is_new = asked[number], true
  if is_repeat then
    is_new = not known(token .. '/' .. number)
  else
    if found == TOMBSTONE then -- guard: tombstone
      return {now, 'in use', job.id}
    end
    is_new = not found and not seen[job.id] and not (job.named and known(job.id)) -- guard: duplicate
    if not is_new then
      remembered[#remembered + 1] = token .. '/' .. number
    elseif job.named then
      remembered[#remembered + 1] = job.id
    end
  end
  flags[number] = is_new and '1' or '0'
  if is_new and not is_repeat then
    seen[job.id] = true
    fields[#fields + 1] = job.id
    fields[#fields + 1] = job.envelope
    if job.due <= now then -- guard: later
      queued[#queued + 1] = job.id
    else
      later[#later + 1] = job
    end
  end
end
local sooner = false
if not is_repeat then
  if #later > 0 then
    call('ZCARD', future)
  end
  chunked('RPUSH', ready, queued)
  chunked('HSET', jobs, fields)
  for _, job in ipairs(later) do
    sooner = put_off(job.id, job.due) or sooner
  end
  chunked('SADD', newest, remembered)
  call('PEXPIREAT', newest, (window + 2) * 600000)
end
if #queued > 0 or sooner then
  arm()
end
return {now, 'stored', table.concat(flags)}

-- Keeps and reports the ends of jobs whose task keeps results. result:<id> has: state, moment of the end, moment of the
-- creation, task, newline, result. The state is 'done' or 'cancelled'; a failed job is among the dead jobs instead.
local IS_KEPT = {done = true, cancelled = true}
local PREFIX = string.sub(jobs, 1, -5)
local CHANNELS = PREFIX .. 'done:'

local function result_key(id)
  return PREFIX .. 'result:' .. id
end

-- Stores the end of a job for ttl ms, and sends it to all that wait for it. rest is the part of the value after the
-- moment of the end. A failed job removes the end of an earlier job of the same id.
local function note_end(key, id, state, ttl, rest)
  local value = ''
  if IS_KEPT[state] then -- guard: result of an earlier job
    value = state .. ' ' .. now .. ' ' .. rest
    call('SET', key, value, 'PX', ttl)
  else
    call('DEL', key)
  end
  redis.pcall('SPUBLISH', CHANNELS .. id, value) -- a user without this right waits longer, and the script goes on
end

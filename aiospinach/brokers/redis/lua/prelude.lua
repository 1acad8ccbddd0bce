-- Precedes every script, after the names of its keys. All keys of a queue are in one slot of a Cluster. A command on a
-- key of a wrong type raises. This must happen before the script writes, or jobs would be lost halfway. So a script first
-- reads each key that it may write to; reading the length is enough.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local position = 0
local function arg()
  position = position + 1
  return ARGV[position]
end

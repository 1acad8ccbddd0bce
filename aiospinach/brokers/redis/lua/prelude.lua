-- Stands before every script, after the names of its keys. All keys of a queue share a slot.
-- A command on a key of a wrong type raises. That must happen before anything is written, or jobs would be left
-- halfway: what a script may write to is read first, by asking for its length if by nothing else.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local position = 0
local function arg()
  position = position + 1
  return ARGV[position]
end

-- Parks jobs: they wait in lanes for a worker that can run them. The gate '?<task>' has the jobs of a task that a worker
-- did not know, and '?/<version>' has the jobs that another release wrote. The turn of a parked job is the moment at
-- which it was parked, so a script can compute the entry.
local function parked_entry(gate, since, id)
  return gate .. '\n' .. string.format('%014.0f', since) .. '\n' .. id
end

local function park(gate, since, id)
  call('ZADD', lanes, 0, parked_entry(gate, since, id))
  call('HSET', control, ' lanes', 1)
  has_lanes = '1'
end

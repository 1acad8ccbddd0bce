-- Puts aside a job that cannot be read, or has no envelope: it stops no other, and is not lost.
local function put_aside(id)
  call('HSETNX', jobs, id, '')
  call('RPUSH', bad, id)
end

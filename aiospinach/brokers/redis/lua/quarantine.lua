-- Puts aside a job that cannot be read. A job of another release is parked, and any other job is dead.
local function quarantine(id, envelope)
  local version = foreign_version(envelope)
  if version and string.find(id, ID) then -- guard: foreign
    park('?/' .. version, now, id)
  else
    add_dead(id, envelope, '{"reason":"unreadable"}')
    call('HDEL', jobs, id)
  end
end

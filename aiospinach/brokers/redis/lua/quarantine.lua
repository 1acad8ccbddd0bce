-- Takes a job that cannot be read out of the way of others: one of another release is parked, any other is dead.
local function quarantine(id, envelope)
  local version = foreign_version(envelope)
  if version and string.find(id, ID) then -- guard: foreign
    park('?/' .. version, now, id)
  else
    bury(id, envelope, '{"reason":"unreadable"}')
    call('HDEL', jobs, id)
  end
end

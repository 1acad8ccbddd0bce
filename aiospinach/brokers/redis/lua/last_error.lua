-- Returns the envelope with another class of the last error, which is the ninth word of the variable line. A line that is
-- too short to have one is kept.
local function with_error(envelope, error)
  local _, first = task_of(envelope)
  local place = string.match(envelope, '^%S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+()', first)
  if not place then
    return envelope
  end
  local after = string.match(envelope, '^ [^ \n]+()', place) or place
  return string.sub(envelope, 1, place - 1) .. ' ' .. error .. string.sub(envelope, after)
end

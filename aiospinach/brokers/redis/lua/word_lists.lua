-- Lists and sets of words in a text.
local function list_of_words(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do
    list[#list + 1] = word
  end
  return list
end

local function set_of_words(text)
  local set = {}
  for word in string.gmatch(text, '%S+') do
    set[word] = true
  end
  return set
end

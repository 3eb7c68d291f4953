-- A map from names to lines that the garbage collector can bear.
--
-- Lua's collector goes through a table in one step, so one table of 150,000 names would keep the server
-- for tens of milliseconds again and again. Here are many small tables, their keys are numbers, and
-- their values long strings, which the collector does not look into.

local sha256 = require "util.hashes".sha256

local SHARDS = 1024

local index_methods = {}
local index_mt = { __index = index_methods }

local function new()
	local shards = {}
	for number = 0, SHARDS - 1 do shards[number] = {} end
	return setmetatable({ shards = shards }, index_mt)
end

-- 64 bits of SHA-256 stand for the name: who gets a line checks that the name is in it.
local function key_of(name)
	return (string.unpack("<i8", sha256(name)))
end

function index_methods:get(name)
	local key = key_of(name)
	return self.shards[key & (SHARDS - 1)][key]
end

function index_methods:put(name, line)
	local key = key_of(name)
	self.shards[key & (SHARDS - 1)][key] = line
end

-- Every line, once for each name under which it was put.
function index_methods:lines()
	return coroutine.wrap(function()
		for number = 0, SHARDS - 1 do
			for _, line in pairs(self.shards[number]) do coroutine.yield(line) end
		end
	end)
end

return { new = new, key_of = key_of }

-- Follows partners.jsonl: reads a base, then what is appended to it.
--
-- The file stays open, so its inode cannot be reused while we compare it with what stands under the
-- path now: another inode is a new base. `pause` is called after every line; it may yield, so that
-- the server serves while a large base is read. Until a new base and its deltas are complete and
-- agree with their digests, the set in force is untouched.

local lfs = require "lfs"
local lines = module:require "lines"
local partners = module:require "partners"

local follower_methods = {}
local follower_mt = { __index = follower_methods }

local function new(path)
	return setmetatable({ path = path, set = partners.new_set() }, follower_mt)
end

local function identity(path)
	local attributes, err = lfs.attributes(path)
	if not attributes then return nil, err or ("cannot look at " .. path) end
	return attributes.dev .. ":" .. attributes.ino
end

-- The file under the path and its identity; again if it was replaced between the two.
local function open(path)
	for _ = 1, 5 do
		local before, err = identity(path)
		if not before then return nil, err end
		local handle, problem = io.open(path, "rb")
		if not handle then return nil, problem end
		if identity(path) == before then return handle, before end
		handle:close()
	end
	return nil, path .. " is replaced faster than it can be opened"
end

-- A whole line without its LF; nil at the end of the file and for a line that is not finished.
local function next_line(handle)
	local line = handle:read("L")
	if not line or line:sub(-1) ~= "\n" then return nil end
	return line:sub(1, -2)
end

-- Reads the base and leaves the handle at its end. A base with the content of `in_force` and no
-- deltas is not parsed again: rewriting the file costs the server nothing. With deltas it is, lest
-- the set in force go back and come forward again with them.
local function read_base(handle, in_force, pause)
	local line = next_line(handle)
	if not line then return nil, "the file is empty" end
	local header, err = lines.parse_header(line)
	if not header then return nil, err end
	local ends = #line + 1 + header.bytes
	local size = handle:seek("end")
	if size < ends then return nil, "the base is cut short" end
	if size == ends and in_force.settings and header.digest == in_force:digest_hex() then
		handle:seek("set", ends)
		return in_force, header.generation
	end
	handle:seek("set", #line + 1)
	local set = partners.new_set()
	for number = 2, header.partners + 2 do
		local added, problem = set:add_line(next_line(handle))
		if not added then return nil, ("line %d: %s"):format(number, problem) end
		pause()
	end
	if handle:seek() ~= ends then return nil, "the base has another length than its header says" end
	if set:digest_hex() ~= header.digest then return nil, "the base's digest does not agree with its content" end
	set.generation = header.generation
	return set, header.generation
end

-- The next delta at the handle: its header and lines; nil when there is none, or it is unfinished.
local function next_delta(handle)
	local line = next_line(handle)
	if not line then return nil end
	local delta, err = lines.parse_delta_header(line)
	if not delta then return nil, err end
	local found = {}
	for number = 1, delta.lines do
		found[number] = next_line(handle)
		if not found[number] then return nil end
	end
	return delta, found
end

-- Applies the deltas from `offset` on. Returns the offset after the last one that is in force, and
-- the error that stopped it, if one did.
local function read_deltas(handle, set, offset, pause)
	while true do
		handle:seek("set", offset)
		local delta, found = next_delta(handle)
		if not delta then return offset, found end
		local applied, err = set:apply(delta, found)
		if not applied then return offset, err end
		offset = handle:seek()
		pause()
	end
end

function follower_methods:follow_base(pause)
	local handle, stamp = open(self.path)
	if not handle then return nil, stamp end
	local set, generation = read_base(handle, self.set, pause)
	if not set then
		handle:close()
		return nil, generation
	end
	if set == self.set then set.generation = generation end
	local offset, err = read_deltas(handle, set, handle:seek(), pause)
	if err and set ~= self.set then
		handle:close()
		return nil, err
	end
	if self.handle then self.handle:close() end
	self.handle, self.stamp, self.offset, self.set = handle, stamp, offset, set
	return not err, err
end

-- Brings the set to what the file says now. True, or nil and why not; then what was in force is.
function follower_methods:catch_up(pause)
	local stamp, err = identity(self.path)
	if not stamp then return nil, err end
	if stamp ~= self.stamp then
		local followed, problem = self:follow_base(pause)
		if not followed then return nil, problem end
	else
		local problem
		self.offset, problem = read_deltas(self.handle, self.set, self.offset, pause)
		if problem then return nil, problem end
	end
	return true
end

-- How many bytes stand behind the last delta in force: an unfinished one.
function follower_methods:unread()
	return self.handle and self.handle:seek("end") - self.offset or 0
end

function follower_methods:modified_at()
	return lfs.attributes(self.path, "modification") or 0
end

function follower_methods:folder()
	return self.path:match("^(.*)/[^/]*$") or "."
end

return { new = new }

%% Follows partners.jsonl: reads a base, then what is appended to it.
%%
%% The file stays open, so its inode cannot be reused while we compare it with what stands under the
%% path now: another inode is a new base. Until a new base and its deltas are complete and agree with
%% their digests, the set in force is untouched.
-module(s2s_partners_file).

-include_lib("kernel/include/file.hrl").

-export([new/0, catch_up/3]).

-type place() :: #{stamp := term(), device => file:io_device(), offset => non_neg_integer()}.
-export_type([place/0]).

-spec new() -> place().
new() -> #{stamp => none}.

%% Brings the set to what the file says now. `{error, Why, ...}`: what is in force is in the answer as
%% well, for good deltas before a broken one are.
-spec catch_up(file:name_all(), place(), s2s_partners_set:set()) ->
          {ok | {error, binary()}, place(), s2s_partners_set:set()}.
catch_up(Path, #{stamp := Stamp} = Place, Set) ->
    try stamp(Path) of
        Stamp -> follow(Place, Set);
        _ -> read_base(Path, Place, Set)
    catch
        throw:{refused, Why} -> {{error, Why}, Place, Set}
    end.

stamp(Path) ->
    case file:read_file_info(Path) of
        {ok, #file_info{inode = Inode, major_device = Device}} -> {Device, Inode};
        {error, Why} -> refuse("~ts cannot be read: ~ts", [Path, file:format_error(Why)])
    end.

refuse(Format, Arguments) ->
    throw({refused, unicode:characters_to_binary(io_lib:format(Format, Arguments))}).

%% ------------------------------------------------------------------ deltas

follow(#{device := Device, offset := Offset} = Place, Set) ->
    {Result, Read, Changed} = apply_deltas(lines(tail(Device, Offset)), Offset, Set),
    {Result, Place#{offset := Read}, Changed}.

tail(Device, Offset) ->
    {ok, Size} = file:position(Device, eof),
    case file:pread(Device, Offset, max(0, Size - Offset)) of
        {ok, Bytes} -> Bytes;
        eof -> <<>>
    end.

%% The finished lines.
lines(Bytes) ->
    lists:droplast(binary:split(Bytes, <<"\n">>, [global])) ++
        case Bytes =:= <<>> orelse binary:last(Bytes) =:= $\n of
            true -> [];
            false -> [unfinished]
        end.

apply_deltas([], Offset, Set) -> {ok, Offset, Set};
apply_deltas([unfinished], Offset, Set) -> {unfinished(), Offset, Set};
apply_deltas([Line | Rest], Offset, Set) ->
    try with_delta(next_delta(s2s_partners_set:delta_header(Line), Rest), Set) of
        unfinished -> {unfinished(), Offset, Set};
        {Lines, Later, Changed} ->
            apply_deltas(Later, Offset + lists:sum([byte_size(L) + 1 || L <- [Line | Lines]]), Changed)
    catch
        throw:{refused, Why} -> {{error, Why}, Offset, Set}
    end.

with_delta(unfinished, _Set) -> unfinished;
with_delta({Header, Lines, Later}, Set) -> {Lines, Later, s2s_partners_set:apply_delta(Header, Lines, Set)}.

next_delta(#{<<"lines">> := Count}, Rest) when length(Rest) < Count -> unfinished;
next_delta(#{<<"lines">> := Count} = Header, Rest) ->
    {Lines, Later} = lists:split(Count, Rest),
    case lists:member(unfinished, Lines) of
        true -> unfinished;
        false -> {Header, Lines, Later}
    end.

unfinished() -> {error, <<"the last delta is not finished">>}.

%% ------------------------------------------------------------------ base

read_base(Path, Place, Set) ->
    Stamp = stamp(Path),
    Device = case file:open(Path, [read, raw, binary]) of
                 {ok, Opened} -> Opened;
                 {error, Why} -> refuse("~ts cannot be opened: ~ts", [Path, file:format_error(Why)])
             end,
    try read_content(Device, Set) of
        {Result, Offset, New} ->
            close(Place),
            {Result, #{stamp => Stamp, device => Device, offset => Offset}, New}
    catch
        throw:{refused, Reason} ->
            file:close(Device),
            {{error, Reason}, Place, Set}
    end.

close(#{device := Device}) -> file:close(Device);
close(#{}) -> ok.

%% A base with the content in force and no deltas is not parsed again: rewriting the file costs the
%% server nothing. With deltas it is, lest the set in force go back and come forward again with them.
read_content(Device, InForce) ->
    {HeaderLine, Rest} = case binary:split(tail(Device, 0), <<"\n">>) of
                             [First, Others] -> {First, Others};
                             _ -> refuse("the file is empty", [])
                         end,
    #{<<"bytes">> := Bytes, <<"partners">> := Count} = Header = s2s_partners_set:header(HeaderLine),
    byte_size(Rest) >= Bytes orelse refuse("the base is cut short", []),
    <<Body:Bytes/binary, Deltas/binary>> = Rest,
    Ends = byte_size(HeaderLine) + 1 + Bytes,
    case Deltas =:= <<>> andalso s2s_partners_set:renewed(Header, InForce) of
        false -> parse_content(Header, Count, Body, Deltas, Ends);
        Renewed -> {ok, Ends, Renewed}
    end.

parse_content(Header, Count, Body, Deltas, Ends) ->
    New = s2s_partners_set:new(),
    try
        Lines = lines(Body),
        length(Lines) =:= Count + 1 andalso lists:last(Lines) =/= unfinished
            orelse refuse("the base has another length than its header says", []),
        Filled = s2s_partners_set:finish(Header, lists:foldl(fun s2s_partners_set:add_line/2, New, Lines)),
        accepted(apply_deltas(lines(Deltas), Ends, Filled))
    catch
        throw:{refused, _} = Refusal ->
            s2s_partners_set:delete(New),
            throw(Refusal)
    end.

%% An unfinished delta at the end is left out and said; a broken one breaks the whole file.
accepted({{error, Why}, _, _} = Read) ->
    {error, Unfinished} = unfinished(),
    Why =:= Unfinished orelse throw({refused, Why}),
    Read;
accepted({ok, _, _} = Read) -> Read.

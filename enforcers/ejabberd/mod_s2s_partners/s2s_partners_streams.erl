%% Counts the authenticated streams and admits new ones while the limits leave room.
%%
%% A process of its own: a stream that waits to be admitted must not wait for s2s_partners_server, which
%% may be waiting for that very stream to look at itself.
-module(s2s_partners_streams).

-behaviour(gen_server).

-export([start_link/0, admit/3, surplus/0, sessions/1, forget/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type direction() :: in | out.

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Admits an authenticated stream of the calling process, if the limits leave room. A further domain on
%% an admitted stream takes no more room. Whatever goes wrong here is a refusal.
-spec admit(direction(), binary(), pid()) -> ok | {refused, binary()}.
admit(Direction, Name, Pid) ->
    try gen_server:call(?MODULE, {admit, Direction, Name, Pid})
    catch exit:_ -> {refused, <<"No list of partners is in force">>}
    end.

%% The streams that are too many now: above a partner's limit, then above that for all together.
-spec surplus() -> [pid()].
surplus() -> gen_server:call(?MODULE, surplus).

%% Partners with streams, by primary domain, at most `Most` of them.
-spec sessions(pos_integer()) -> [map()].
sessions(Most) -> gen_server:call(?MODULE, {sessions, Most}).

%% These are closed; their processes may take a moment to end.
-spec forget([pid()]) -> ok.
forget(Pids) -> gen_server:call(?MODULE, {forget, Pids}).

%% ------------------------------------------------------------------ the process

%% `streams`: process to {number in order of admission, direction, the partner's primary domain}.
init([]) -> {ok, #{streams => #{}, next => 0}}.

handle_call({admit, Direction, Name, Pid}, _, #{streams := Streams} = State) ->
    case {s2s_partners_server:judge(Name), s2s_partners_server:settings()} of
        {{refused, _} = Refused, _} -> {reply, Refused, State};
        {{ok, _}, _} when is_map_key(Pid, Streams) -> {reply, ok, State};
        {{ok, Partner}, Settings} ->
            case room(Direction, Partner, Settings, Streams) of
                ok -> {reply, ok, remember(Pid, Direction, Partner, State)};
                Refused -> {reply, Refused, State}
            end
    end;
handle_call(surplus, _, #{streams := Streams} = State) ->
    {reply, surplus(s2s_partners_server:settings(), Streams), State};
handle_call({sessions, Most}, _, #{streams := Streams} = State) ->
    {reply, counted(Most, Streams), State};
handle_call({forget, Pids}, _, #{streams := Streams} = State) ->
    {reply, ok, State#{streams := maps:without(Pids, Streams)}}.

handle_cast(_, State) -> {noreply, State}.

handle_info({'DOWN', _, process, Pid, _}, #{streams := Streams} = State) ->
    {noreply, State#{streams := maps:remove(Pid, Streams)}};
handle_info(_, State) -> {noreply, State}.

remember(Pid, Direction, #{domain := Domain}, #{streams := Streams, next := Number} = State) ->
    monitor(process, Pid),
    State#{streams := Streams#{Pid => {Number, Direction, Domain}}, next := Number + 1}.

%% ------------------------------------------------------------------ limits

room(Direction, #{domain := Domain} = Partner, #{<<"connection_limit">> := ForAll} = Settings, Streams) ->
    IsFull = Direction =:= in andalso length(inbound_of(Domain, Streams)) >= limit(Partner, Settings),
    if map_size(Streams) >= ForAll -> {refused, <<"There are too many streams">>};
       IsFull -> {refused, <<"This domain has too many streams">>};
       true -> ok
    end.

limit(#{limit := undefined}, #{<<"partner_connection_limit">> := Limit}) -> Limit;
limit(#{limit := Limit}, _) -> Limit.

%% The partner's inbound streams, the youngest first.
inbound_of(Domain, Streams) ->
    youngest_first([{Number, Pid} || {Pid, {Number, in, Of}} <- maps:to_list(Streams), Of =:= Domain]).

youngest_first(Numbered) -> lists:reverse(lists:sort(Numbered)).

surplus(none, _) -> [];
surplus(#{<<"connection_limit">> := ForAll} = Settings, Streams) ->
    Domains = lists:usort([Domain || {_, in, Domain} <- maps:values(Streams)]),
    OfPartners = lists:flatmap(fun(Domain) -> surplus_of(Domain, Settings, Streams) end, Domains),
    Left = maps:to_list(maps:without(OfPartners, Streams)),
    OfPartners ++ above(ForAll, youngest_first([{Number, Pid} || {Pid, {Number, _, _}} <- Left])).

%% Who is not allowed at all is closed for that reason.
surplus_of(Domain, Settings, Streams) ->
    case s2s_partners_server:judge(Domain) of
        {ok, Partner} -> above(limit(Partner, Settings), inbound_of(Domain, Streams));
        {refused, _} -> []
    end.

above(Limit, YoungestFirst) ->
    [Pid || {_, Pid} <- lists:sublist(YoungestFirst, max(0, length(YoungestFirst) - Limit))].

%% ------------------------------------------------------------------ counting

counted(Most, Streams) ->
    Counts = maps:fold(fun(_, {_, Direction, Domain}, Counts) ->
                               maps:update_with({Domain, Direction}, fun(N) -> N + 1 end, 1, Counts)
                       end, #{}, Streams),
    Domains = lists:usort([Domain || {Domain, _} <- maps:keys(Counts)]),
    [#{domain => Domain, inbound => maps:get({Domain, in}, Counts, 0), outbound => maps:get({Domain, out}, Counts, 0)}
     || Domain <- lists:sublist(Domains, Most)].

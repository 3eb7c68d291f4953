%% Counts the authenticated streams and admits new ones while the limits leave room.
%%
%% A process of its own: a stream that waits to be admitted must not wait for s2s_partners_server, which
%% may be waiting for that very stream to look at itself.
-module(s2s_partners_streams).

-behaviour(gen_server).

-export([start_link/0, admit/3, surplus/0, violating/0, sessions/1, forget/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type direction() :: in | out.
%% A domain, how it was authenticated, and whether the stream is encrypted.
-type claim() :: {binary(), external | dialback, boolean()}.
-export_type([claim/0]).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Admits an authenticated stream of the calling process, if the limits leave room. A further domain on
%% an admitted stream takes no more room. Whatever goes wrong here is a refusal. The terms are judged
%% once more: who is admitted after `violating` was asked is admitted under the terms of now.
-spec admit(direction(), claim(), pid()) -> ok | {refused, binary()}.
admit(Direction, Claim, Pid) ->
    try gen_server:call(?MODULE, {admit, Direction, Claim, Pid})
    catch exit:_ -> {refused, <<"No list of partners is in force">>}
    end.

%% The streams that are too many now: above a partner's limit, then above that for all together.
-spec surplus() -> [pid()].
surplus() -> gen_server:call(?MODULE, surplus).

%% The streams that carry domains which are no longer within their terms, with these domains.
-spec violating() -> #{pid() => [claim()]}.
violating() -> gen_server:call(?MODULE, violating).

%% Partners with streams, by primary domain, at most `Most` of them.
-spec sessions(pos_integer()) -> [map()].
sessions(Most) -> gen_server:call(?MODULE, {sessions, Most}).

%% These are closed, though their processes may take a moment to end; and those that were violating
%% and are not closed have let go of the domains.
-spec forget([pid()], #{pid() => [claim()]}) -> ok.
forget(Closed, LetGo) -> gen_server:call(?MODULE, {forget, Closed, LetGo}).

%% ------------------------------------------------------------------ the process

%% `streams`: process to {number in order of admission, direction, the partner's primary domain}.
%% `claims`: process to the domains it was admitted for, all of them.
init([]) -> {ok, #{streams => #{}, claims => #{}, next => 0}}.

handle_call({admit, Direction, {Name, _, _} = Claim, Pid}, _, #{streams := Streams} = State) ->
    case {mod_s2s_partners:violation(Claim), s2s_partners_server:judge(Name), s2s_partners_server:settings()} of
        {none, {refused, _} = Refused, _} -> {reply, Refused, State};
        {none, {ok, _}, _} when is_map_key(Pid, Streams) -> {reply, ok, claim(Pid, Claim, State)};
        {none, {ok, Partner}, Settings} ->
            case room(Direction, Partner, Settings, Streams) of
                ok -> {reply, ok, claim(Pid, Claim, remember(Pid, Direction, Partner, State))};
                Refused -> {reply, Refused, State}
            end;
        {Why, _, _} -> {reply, {refused, Why}, State}
    end;
handle_call(surplus, _, #{streams := Streams} = State) ->
    {reply, surplus(s2s_partners_server:settings(), Streams), State};
handle_call(violating, _, #{claims := Claims} = State) ->
    Broken = maps:map(fun(_, Own) -> [Claim || Claim <- Own, mod_s2s_partners:violation(Claim) =/= none] end, Claims),
    {reply, maps:filter(fun(_, Own) -> Own =/= [] end, Broken), State};
handle_call({sessions, Most}, _, #{streams := Streams} = State) ->
    {reply, counted(Most, Streams), State};
handle_call({forget, Closed, LetGo}, _, #{streams := Streams, claims := Claims} = State) ->
    Kept = maps:map(fun(Pid, Own) -> Own -- maps:get(Pid, LetGo, []) end, maps:without(Closed, Claims)),
    {reply, ok, State#{streams := maps:without(Closed, Streams), claims := Kept}}.

handle_cast(_, State) -> {noreply, State}.

handle_info({'DOWN', _, process, Pid, _}, #{streams := Streams, claims := Claims} = State) ->
    {noreply, State#{streams := maps:remove(Pid, Streams), claims := maps:remove(Pid, Claims)}};
handle_info(_, State) -> {noreply, State}.

remember(Pid, Direction, #{domain := Domain}, #{streams := Streams, next := Number} = State) ->
    monitor(process, Pid),
    State#{streams := Streams#{Pid => {Number, Direction, Domain}}, next := Number + 1}.

claim(Pid, Claim, #{claims := Claims} = State) ->
    State#{claims := Claims#{Pid => lists:usort([Claim | maps:get(Pid, Claims, [])])}}.

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

/*
 * `gimlet agent`: stands beside a service, dials the server, and serves what the server opens from
 * the service's own backend. Runs its rings and the control thread until it has drained.
 */
#ifndef GM_AGENT_AGENT_H
#define GM_AGENT_AGENT_H

/* argv[0] is "agent". Returns the exit code: 0 after a drain or --help, 1 when something could not
 * be started, 2 for options that cannot be used. */
int gm_agent_main(int argc, char **argv);

#endif

/*
 * `gimlet jwt`: makes tokens from a private key file and shows what a token says. A short-lived
 * command on one thread; prints to stdout and stderr and touches only the files it is told of.
 */
#ifndef GM_CLI_JWT_H
#define GM_CLI_JWT_H

/*
 * Runs the command; argv[0] is "jwt", argv[1] the verb: agent, client or inspect. Returns the exit
 * code: 0 done, 1 the command could not do what was asked (one "Error: …" line on stderr), 2 wrong
 * usage.
 */
int gm_cli_jwt(int argc, char **argv);

#endif

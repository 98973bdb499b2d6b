/*
 * `gimlet jwt`: makes tokens with a private key, from a file or in AWS KMS, and shows what a token
 * says. A short-lived command; prints to stdout and stderr and touches only the files it is told
 * of.
 */
#ifndef GM_CLI_JWT_H
#define GM_CLI_JWT_H

/*
 * Runs the command; argv[0] is "jwt", argv[1] the verb: agent, client, inspect or
 * export-public-key. Returns the exit code: 0 done, 1 the command could not do what was asked (one
 * "Error: …" line on stderr), 2 wrong usage.
 */
int gm_cli_jwt(int argc, char **argv);

#endif

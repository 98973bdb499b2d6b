/* `gimlet server`: from the command line to the last ring's end. */
#ifndef GM_SERVER_SERVER_H
#define GM_SERVER_SERVER_H

/* Runs the server; argv[0] is "server". Returns the exit code: 0 after a clean shutdown, 1 when it
 * could not start, 2 for a wrong option. */
int gm_server_main(int argc, char **argv);

#endif

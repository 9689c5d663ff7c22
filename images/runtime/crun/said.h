/* Questions whose answers the image has.  */
#ifndef SAID_H
#define SAID_H

#include <stdbool.h>

/* Answers the command line and ends, or executes runc if it was started as that; returns if neither.  */
void say (int argc, char **argv);

#endif

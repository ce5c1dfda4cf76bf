/* SPDX-License-Identifier: MIT */
/* step.h - what a step of the handshake or of a request wants next. */
#ifndef NBD_SERVER_STEP_H
#define NBD_SERVER_STEP_H

enum nbds_step {
	NBDS_STEP_MORE = 1, /* call the next step */
	NBDS_STEP_INPUT,    /* bytes from the client */
	NBDS_STEP_WAIT,	    /* something that wakes the connection */
};

#endif /* NBD_SERVER_STEP_H */

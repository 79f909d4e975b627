/* Cortex-M: a library for each core, which whoever links it chooses. */
#ifndef CPU_OF_QCOMPILER
#define CPU_OF_QCOMPILER

/* Boards have timers of their own: whoever runs the network takes the time of steps. */
#define CPU_WITHOUT_CLOCK

/* The smallest cores have no atomic operations but loads and stores. */
#define CPU_WITHOUT_THREADS

enum { CPU_COUNT };

#endif

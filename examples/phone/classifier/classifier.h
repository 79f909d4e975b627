/* A compiled network as a classifier of pictures: the part that the apps for Android and iOS share. */
#ifndef CLASSIFIER_H
#define CLASSIFIER_H

#ifdef __cplusplus
extern "C" {
#endif

int classifier_width(void);
int classifier_height(void);
int classifier_classes(void);

/* Scores of a picture of width * height pixels, row by row, of four bytes each: red, green, blue, and one that is not
 * looked at. 0, or a status that classifier_text explains. May be called from several threads at the same time. */
int classifier_run(const unsigned char *pixels, float *scores);

const char *classifier_text(int status);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aliases.c - names that stand for pipeline texts.
 */
#include "compress/families.h"

const gp_codec_alias gp_codec_aliases[] = {
    {"dgc", "momentum:factor=0.9,mask=1+topk:@scope=tensor",
     "deep gradient compression (Lin et al. 2018): momentum correction and "
     "factor masking over an exact selection"},
    {"signsgd", "vote:@workers=64",
     "signSGD with majority vote (Bernstein et al. 2018)"},
    {"efsignsgd", "ef+sign:@block=0,scale=l1",
     "EF-SignSGD (Karimireddy et al. 2019): signs times the mean magnitude"},
    {"onebit:deepspeed", "ef+sign:@block=0,scale=l2",
     "DeepSpeed: signs times the root mean square, with error feedback"},
    {"onebit:byteps", "sign:@block=0,scale=l1",
     "BytePS with scaling: signs times the mean magnitude"},
    {"onebit:byteps-unscaled", "sign:@block=0,scale=unit",
     "BytePS as it comes: signs alone"},
    {"onebit:grace", "onebit:@block=0",
     "GRACE: the means of those below zero and of the others"},
    {"onebit:mxnet", "ef+sign:@block=0,scale=unit,threshold=0.50000006",
     "MXNet: 1 where the residual exceeds 0.5, else -1"},
    {"qsgd:grace", "qsgd:@levels=127,norm=l2,block=128",
     "GRACE: L2 norm, buckets of 128, 8 bits"},
    {"qsgd:byteps", "qsgd:@norm=max,block=0",
     "BytePS linear dithering: largest magnitude of the chunk"},
    {"natural-dither:byteps", "natural-dither:@norm=max,block=0",
     "BytePS natural dithering: largest magnitude of the chunk"},
    {"terngrad:grace", "terngrad:@clip=2.5,block=0,sigma=std",
     "GRACE: clips at 2.5 standard deviations about the mean"},
    {NULL, NULL, NULL},
};
